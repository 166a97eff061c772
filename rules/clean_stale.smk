rule clean_stale:
    input:
        associations=associations,
        records=exposure_records,
        kept=[*INPUTS.exposures.values(), *INPUTS.associations],
    output:
        f"{OUT}/clean_stale/clean_stale.tsv",
    log:
        f"{OUT}/logs/clean_stale/clean_stale.log",
    benchmark:
        f"{OUT}/benchmarks/clean_stale/clean_stale.tsv"
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(60),
    params:
        parameters=CONFIG["clean_stale"],
        colors=CONFIG["color"]["filters"],
        asked=time.time(),  # what only looks is done whenever it is asked for
        code=code_digest("clean_stale"),
    message:
        "clean_stale: files that nothing wants any more"
    script:
        "../scripts/clean_stale.py"
