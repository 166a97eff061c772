rule flux:
    input:
        exposure=ancient(raw_exposure),
        record=record,
    output:
        f"{OUT}/flux/{{exposure}}_flux.asdf",
    log:
        f"{OUT}/logs/flux/{{exposure}}.log",
    benchmark:
        f"{OUT}/benchmarks/flux/{{exposure}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=by_attempt(1500),
        runtime=by_attempt(20),
    params:
        parameters={
            **CONFIG["flux"],
            "sky": {
                key: value
                for key, value in CONFIG["skymatch"].items()
                if key not in ("skymethod", "match_down", "subtract", "skylist")
            },
        },
        code=code_digest("flux"),
    message:
        "flux {wildcards.exposure}"
    script:
        "../scripts/flux.py"
