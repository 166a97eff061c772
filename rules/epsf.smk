rule epsf:
    input:
        coadds=of_filter("resample/{product}_coadd.asdf"),
    output:
        f"{OUT}/epsf/{{filter}}_epsf.asdf",
    log:
        f"{OUT}/logs/epsf/{{filter}}.log",
    benchmark:
        f"{OUT}/benchmarks/epsf/{{filter}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=filter_memory("source_catalog"),
        runtime=by_attempt(120),
    params:
        parameters=CONFIG["epsf"],
        detection={
            key: CONFIG["source_catalog"][key]
            for key in (
                "bkg_boxsize",
                "kernel_fwhm",
                "snr_threshold",
                "npixels",
                "deblend",
            )
        },
        code=code_digest("epsf"),
    message:
        "epsf {wildcards.filter}"
    script:
        "../scripts/epsf.py"
