rule fits:
    input:
        products=of_products("fits/{product}_coadd.fits"),
        associations=associations,
    output:
        f"{OUT}/fits/fits.tsv",
    log:
        f"{OUT}/logs/fits/fits.log",
    benchmark:
        f"{OUT}/benchmarks/fits/fits.tsv"
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=by_attempt(500),
        runtime=by_attempt(20),
    params:
        code=code_digest("fits"),
    message:
        "fits of all products"
    script:
        "../scripts/fits.py"


rule fits_product:
    input:
        coadd=f"{OUT}/resample/{{product}}_coadd.asdf",
    output:
        f"{OUT}/fits/{{product}}_coadd.fits",
    log:
        f"{OUT}/logs/fits/{{product}}.log",
    benchmark:
        f"{OUT}/benchmarks/fits/{{product}}.tsv"
    wildcard_constraints:
        # with `batch: rest`, too: the mosaics are there
        product=NAME,
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=product_memory("fits"),
        runtime=by_attempt(30),
    params:
        parameters=CONFIG["fits"],
        code=code_digest("fits"),
    message:
        "fits {wildcards.product}"
    script:
        "../scripts/fits.py"
