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
    conda:
        "../envs/environment.yaml"
    threads: CONFIG["threads"]
    resources:
        mem_mb=2000,
    params:
        parameters=CONFIG["resample"],
        code=code_digest("resample"),
    message:
        "resample {wildcards.product}"
    script:
        "../scripts/resample.py"
