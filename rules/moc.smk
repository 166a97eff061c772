rule moc:
    input:
        filters=of_filters("moc/{filter}_moc.fits"),
    output:
        f"{OUT}/moc/moc.fits",
    log:
        f"{OUT}/logs/moc/moc.log",
    benchmark:
        f"{OUT}/benchmarks/moc/moc.tsv"
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(20),
    params:
        code=code_digest("moc"),
    message:
        "moc of all filters"
    script:
        "../scripts/moc.py"


rule moc_filter:
    input:
        coadds=of_filter("resample/{product}_coadd.asdf"),
    output:
        f"{OUT}/moc/{{filter}}_moc.fits",
    log:
        f"{OUT}/logs/moc/{{filter}}.log",
    benchmark:
        f"{OUT}/benchmarks/moc/{{filter}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=filter_memory("fits"),
        runtime=by_attempt(60),
    params:
        parameters=CONFIG["moc"],
        code=code_digest("moc"),
    message:
        "moc {wildcards.filter}"
    script:
        "../scripts/moc.py"
