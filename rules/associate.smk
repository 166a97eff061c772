EXCLUDING = CONFIG["associate"]["on_bad_exposure"] == "exclude"


checkpoint associate:
    input:
        exposures=INPUTS.exposures.values(),
        associations=INPUTS.associations,
        references=references("skymap.reference_file"),
        grids=output_wcs_files(CONFIG),
    output:
        update(directory(f"{OUT}/associate")),
    log:
        f"{OUT}/logs/associate/associate.log",
    benchmark:
        f"{OUT}/benchmarks/associate/associate.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 8
    resources:
        # those that may exclude exposures read pixels, too
        mem_mb=by_attempt(4000 if EXCLUDING else 2000),
        runtime=by_attempt(20 + len(INPUTS.exposures) // 60),
    params:
        own=INPUTS.own,
        state=exposure_state,
        parameters=CONFIG["associate"],
        reference_file=CONFIG["skymap"]["reference_file"],
        max_unusable_fraction=(
            CONFIG["flux"]["max_unusable_fraction"] if EXCLUDING else None
        ),
        grids={key: CONFIG["resample"][key] for key in GRID_KEYS},
        code=code_digest("associate"),
    message:
        "associate the exposures with skycells"
    script:
        "../scripts/associate.py"
