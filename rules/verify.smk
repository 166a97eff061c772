rule verify:
    input:
        associations=associations,
        records=exposure_records,
    output:
        f"{OUT}/verify/verify.tsv",
    log:
        f"{OUT}/logs/verify/verify.log",
    benchmark:
        f"{OUT}/benchmarks/verify/verify.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 8
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(60),
    params:
        parameters=CONFIG["verify"],
        steps={step: getattr(rules, step).params.parameters for step in RECORDING},
        colors=CONFIG["color"]["filters"],
        asked=time.time(),  # what only looks is done whenever it is asked for
        code=code_digest("verify"),
    message:
        "verify the files of the run"
    script:
        "../scripts/verify.py"
