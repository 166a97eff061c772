"""Tool `explain`: of what a pixel of a coadd is made, or a source of its catalog."""

from romosaic.errors import told

with told():
    from romosaic import coadd_file, explain, explain_text
    from romosaic.command_line import Arguments

    parser = Arguments("explain", __doc__)
    parser.add_argument("coadd", help="a run's resample/<product>_coadd.asdf")
    for name, text in {"ra": "degrees", "dec": "degrees"}.items():
        parser.add_number(f"--{name}", text, required=False)
    for name, text in {
        "x": "pixel, from 0",
        "y": "",
        "label": "of a source in the catalog",
    }.items():
        parser.add_number(f"--{name}", text, int, required=False)
    asked = parser.parse_args()
    if not asked.coadd.endswith("_coadd.asdf"):
        parser.error(f"{asked.coadd} is not named as coadds are: resample/<product>_coadd.asdf")
    explain.check_question(asked.ra, asked.dec, asked.x, asked.y, asked.label)
    coadd = coadd_file.open_coadd(asked.coadd)
    x, y = asked.x, asked.y
    if asked.label is not None:
        row, columns, flags = explain_text.read_source(explain.catalog_of(coadd), asked.label)
        print(*explain_text.source_lines(row, columns, flags), "", sep="\n")
        x, y = row["x_centroid"], row["y_centroid"]
    elif x is None:
        x, y = explain.find_pixel(coadd.grid, asked.ra, asked.dec)
    found = explain.explain(
        coadd, *explain.read_members(coadd), *explain.check_pixel(coadd.grid, x, y)
    )
    print(*explain_text.pixel_lines(coadd, found), sep="\n")
