rule hats:
    input:
        filters=of_filters("hats/{filter}"),
    output:
        f"{OUT}/hats/hats.tsv",
    log:
        f"{OUT}/logs/hats/hats.log",
    benchmark:
        f"{OUT}/benchmarks/hats/hats.tsv"
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=by_attempt(500),
        runtime=by_attempt(20),
    params:
        code=code_digest("hats"),
    message:
        "hats of all filters"
    script:
        "../scripts/hats.py"


rule hats_filter:
    input:
        catalogs=merged_catalogs,
    output:
        directory(f"{OUT}/hats/{{filter}}"),
    log:
        f"{OUT}/logs/hats/{{filter}}.log",
    benchmark:
        f"{OUT}/benchmarks/hats/{{filter}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=by_attempt(catalog_memory(CONFIG["hats"]["max_rows"])),
        runtime=by_attempt(240),
    params:
        parameters=CONFIG["hats"],
        code=code_digest("hats"),
    message:
        "hats {wildcards.filter}"
    script:
        "../scripts/hats.py"
