rule plan:
    input:
        associations=associations,
        records=exposure_records,
        quarantine=quarantine,
    output:
        table=f"{OUT}/plan/plan.tsv",
        picture=report(
            f"{OUT}/plan/plan.png",
            caption="report/plan.rst",
            category="plan",
        ),
    log:
        f"{OUT}/logs/plan/plan.log",
    benchmark:
        f"{OUT}/benchmarks/plan/plan.tsv"
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=by_attempt(1500),
        runtime=by_attempt(20),
    params:
        parameters={
            **CONFIG["plan"],
            "memory": settings(CONFIG),
        },
        code=code_digest("plan"),
    message:
        "plan the run"
    script:
        "../scripts/plan.py"
