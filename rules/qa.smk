rule qa:
    input:
        association=association,
        members=members,
        skymatch=f"{OUT}/skymatch/{{product}}_skymatch.asdf",
        outliers=f"{OUT}/outlier_detection/{{product}}_outliers.asdf",
        coadd=f"{OUT}/resample/{{product}}_coadd.asdf",
        catalog=f"{OUT}/source_catalog/{{product}}_cat.parquet",
        segmentation=f"{OUT}/source_catalog/{{product}}_segm.asdf",
    output:
        f"{OUT}/qa/{{product}}_qa.json",
    log:
        f"{OUT}/logs/qa/{{product}}.log",
    benchmark:
        f"{OUT}/benchmarks/qa/{{product}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=product_memory("qa"),
        runtime=by_attempt(30),
    params:
        code=code_digest("qa"),
    message:
        "qa {wildcards.product}"
    script:
        "../scripts/qa.py"


rule qa_table:
    input:
        measures=of_products("qa/{product}_qa.json"),
        small=of_products("preview/{product}_small.asdf"),
        catalogs=of_products("source_catalog/{product}_cat.parquet"),
    output:
        table=f"{OUT}/qa/qa.tsv",
        seams=f"{OUT}/qa/seams.tsv",
        page=report(
            f"{OUT}/qa/qa.html",
            caption="report/qa.rst",
            category="qa",
            labels={"table": "all products"},
        ),
    log:
        f"{OUT}/logs/qa/qa_table.log",
    benchmark:
        f"{OUT}/benchmarks/qa/qa_table.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=by_attempt(1500),
        runtime=by_attempt(30),
    params:
        parameters=CONFIG["qa"],
        benchmarks=f"{OUT}/benchmarks",
        code=code_digest("qa"),
    message:
        "qa of all products"
    script:
        "../scripts/qa.py"
