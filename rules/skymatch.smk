rule skymatch:
    input:
        association=association,
        members=members,
    output:
        f"{OUT}/skymatch/{{product}}_skymatch.asdf",
    log:
        f"{OUT}/logs/skymatch/{{product}}.log",
    benchmark:
        f"{OUT}/benchmarks/skymatch/{{product}}.tsv"
    priority: 1  # begun products are ended first, so that there is something to look at
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=product_memory("skymatch"),
        runtime=product_minutes("skymatch"),
    params:
        parameters={
            key: value
            for key, value in CONFIG["skymatch"].items()
            if key != "skylist"  # the levels that it gives count, not where it lies
        },
        levels=user_levels,
        code=code_digest("skymatch"),
    message:
        "skymatch {wildcards.product}"
    script:
        "../scripts/skymatch.py"
