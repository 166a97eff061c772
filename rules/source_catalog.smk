rule source_catalog:
    input:
        coadd=f"{OUT}/resample/{{product}}_coadd.asdf",
        forcing=forcing,
        references=references(
            "skymap.reference_file",
            "source_catalog.epsf_file",
            "source_catalog.apcorr_file",
        ),
        epsf=measured_epsf,
    output:
        catalog=f"{OUT}/source_catalog/{{product}}_cat.asdf",
        parquet=f"{OUT}/source_catalog/{{product}}_cat.parquet",
        segmentation=f"{OUT}/source_catalog/{{product}}_segm.asdf",
    log:
        f"{OUT}/logs/source_catalog/{{product}}.log",
    benchmark:
        f"{OUT}/benchmarks/source_catalog/{{product}}.tsv"
    priority: 4
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=product_memory("source_catalog"),
        runtime=product_minutes("source_catalog"),
    params:
        parameters={
            key: value
            for key, value in CONFIG["source_catalog"].items()
            if key != "forced"
        },
        forced_by=forced_by,
        reference_file=CONFIG["skymap"]["reference_file"],
        code=code_digest("source_catalog"),
    message:
        "source_catalog {wildcards.product}"
    script:
        "../scripts/source_catalog.py"
