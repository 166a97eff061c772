rule preview:
    input:
        association=association,
        references=references("skymap.reference_file"),
        records=records,
        coadd=f"{OUT}/resample/{{product}}_coadd.asdf",
        outliers=f"{OUT}/outlier_detection/{{product}}_outliers.asdf",
        catalog=f"{OUT}/source_catalog/{{product}}_cat.parquet",
    output:
        coadd=f"{OUT}/preview/{{product}}_coadd.png",
        planes=f"{OUT}/preview/{{product}}_planes.png",
        thumbnail=report(
            f"{OUT}/preview/{{product}}_thumbnail.jpg",
            caption="report/preview.rst",
            category="preview",
            labels={"product": "{product}"},
        ),
        small=f"{OUT}/preview/{{product}}_small.asdf",
    log:
        f"{OUT}/logs/preview/{{product}}.log",
    benchmark:
        f"{OUT}/benchmarks/preview/{{product}}.tsv"
    priority: 5
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=product_memory("preview"),
        runtime=product_minutes("preview"),
    params:
        parameters=CONFIG["preview"],
        reference_file=CONFIG["skymap"]["reference_file"],
        code=code_digest("preview"),
    message:
        "preview {wildcards.product}"
    script:
        "../scripts/preview.py"
