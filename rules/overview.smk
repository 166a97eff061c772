rule overview:
    input:
        small=small_of_filter,
    output:
        report(
            f"{OUT}/overview/{{optical_element}}_overview.png",
            caption="report/overview.rst",
            category="overview",
            labels={"filter": "{optical_element}"},
        ),
    log:
        f"{OUT}/logs/overview/{{optical_element}}.log",
    benchmark:
        f"{OUT}/benchmarks/overview/{{optical_element}}.tsv"
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
        "overview {wildcards.optical_element}"
    script:
        "../scripts/overview.py"
