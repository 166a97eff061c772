rule outlier_detection:
    input:
        association=association,
        members=members,
        skymatch=f"{OUT}/skymatch/{{product}}_skymatch.asdf",
    output:
        f"{OUT}/outlier_detection/{{product}}_outliers.asdf",
    log:
        f"{OUT}/logs/outlier_detection/{{product}}.log",
    benchmark:
        f"{OUT}/benchmarks/outlier_detection/{{product}}.tsv"
    priority: 2
    conda:
        "../envs/environment.yaml"
    threads: CONFIG["threads"]
    resources:
        mem_mb=product_memory("outlier_detection"),
        runtime=product_minutes("outlier_detection"),
    params:
        parameters={
            key: value
            for key, value in CONFIG["outlier_detection"].items()
            if key != "memory_mb"  # changes no bit of the result
        },
        code=code_digest("outlier_detection"),
    message:
        "outlier_detection {wildcards.product}"
    script:
        "../scripts/outlier_detection.py"
