rule catalog:
    input:
        catalogs=catalogs,
    output:
        directory(f"{OUT}/catalog/{{filter}}"),
    log:
        f"{OUT}/logs/catalog/{{filter}}.log",
    benchmark:
        f"{OUT}/benchmarks/catalog/{{filter}}.tsv"
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
        "catalog {wildcards.filter}"
    script:
        "../scripts/catalog.py"
