rule hips:
    input:
        filters=of_filters("hips/{filter}"),
    output:
        f"{OUT}/hips/hips.tsv",
    log:
        f"{OUT}/logs/hips/hips.log",
    benchmark:
        f"{OUT}/benchmarks/hips/hips.tsv"
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=by_attempt(500),
        runtime=by_attempt(20),
    params:
        code=code_digest("hips"),
    message:
        "hips of all filters"
    script:
        "../scripts/hips.py"


rule hips_filter:
    input:
        coadds=of_filter("resample/{product}_coadd.asdf"),
        moc=f"{OUT}/moc/{{filter}}_moc.fits",
    output:
        directory(f"{OUT}/hips/{{filter}}"),
    log:
        f"{OUT}/logs/hips/{{filter}}.log",
    benchmark:
        f"{OUT}/benchmarks/hips/{{filter}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: CONFIG["threads"]
    resources:
        mem_mb=filter_memory("hips", CONFIG["threads"]),
        runtime=by_attempt(720),
    params:
        parameters=CONFIG["hips"],
        code=code_digest("hips"),
    message:
        "hips {wildcards.filter}"
    script:
        "../scripts/hips.py"
