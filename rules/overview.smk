rule overview:
    input:
        small=of_filter("preview/{product}_small.asdf"),
    output:
        report(
            f"{OUT}/overview/{{filter}}_overview.png",
            caption="report/overview.rst",
            category="overview",
            labels={"filter": "{filter}"},
        ),
    log:
        f"{OUT}/logs/overview/{{filter}}.log",
    benchmark:
        f"{OUT}/benchmarks/overview/{{filter}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=by_attempt(1500),
        runtime=by_attempt(30),
    params:
        parameters=CONFIG["overview"],
        code=code_digest("overview"),
    message:
        "overview {wildcards.filter}"
    script:
        "../scripts/overview.py"
