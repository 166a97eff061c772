"""Tool `cutout`: a piece of a run's mosaics as FITS files, across the borders of skycells."""

from romosaic.errors import told

with told():
    from romosaic import coadd_file, cutout, fits_file
    from romosaic.command_line import Arguments
    from romosaic.skymap import SkyMap

    parser = Arguments("cutout", __doc__)
    for name, text in {"ra": "of the middle, degrees", "dec": "", "size": "side, arcsec"}.items():
        parser.add_number(f"--{name}", text)
    parser.add_argument("--filter", help="such as F158; without it one file for each filter")
    parser.add_argument("--output-dir", default="results", help="folder of the run's results")
    parser.add_argument("--output", default=".", help="folder of the files that are made")
    asked = parser.parse_args()
    skymap, found = SkyMap(), cutout.made_products(asked.output_dir, asked.filter)
    place = asked.ra, asked.dec
    owner = str(skymap.primary_cell(*place))
    for element, (grid, names) in cutout.choose_all(found, *place, asked.size, owner).items():
        files = [f"{asked.output_dir}/resample/{name}_coadd.asdf" for name in names]
        cut = cutout.paste(grid, [coadd_file.open_coadd(file) for file in files])
        path = f"{asked.output}/{cutout.file_name(*place, element)}"
        tables = {"PRODUCTS": cutout.products_table(cut)}
        fits_file.write_fits(path, grid, cutout.cards(cut), cutout.images(cut), tables)
        print(f"{path}: {grid.nx} x {grid.ny} pixels, {element}")
        print(*cutout.report(cut, cutout.foreign_part(grid, owner, skymap)), sep="\n")
