rule resample:
    input:
        association=association,
        members=members,
        skymatch=f"{OUT}/skymatch/{{product}}_skymatch.asdf",
        outliers=f"{OUT}/outlier_detection/{{product}}_outliers.asdf",
    output:
        f"{OUT}/resample/{{product}}_coadd.asdf",
    log:
        f"{OUT}/logs/resample/{{product}}.log",
    benchmark:
        f"{OUT}/benchmarks/resample/{{product}}.tsv"
    priority: 3
    conda:
        "../envs/environment.yaml"
    threads: CONFIG["threads"]
    resources:
        mem_mb=product_memory("resample"),
        runtime=product_minutes("resample"),
    params:
        parameters={
            key: value
            for key, value in CONFIG["resample"].items()
            if key not in GRID_KEYS  # of grids, which `associate` makes
        },
        code=code_digest("resample"),
    message:
        "resample {wildcards.product}"
    script:
        "../scripts/resample.py"
