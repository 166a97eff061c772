rule catalog:
    input:
        catalogs=catalogs,
    output:
        f"{OUT}/catalog/{{filter}}/projection_region={{region}}/{{filter}}_{{region}}.parquet",
    log:
        f"{OUT}/logs/catalog/{{filter}}_{{region}}.log",
    benchmark:
        f"{OUT}/benchmarks/catalog/{{filter}}_{{region}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=by_attempt(catalog_memory(CONFIG["catalog"]["max_rows"])),
        runtime=by_attempt(60),
    params:
        parameters=CONFIG["catalog"],
        code=code_digest("catalog"),
    message:
        "catalog {wildcards.filter}_{wildcards.region}"
    script:
        "../scripts/catalog.py"
