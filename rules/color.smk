rule color:
    input:
        small=small_of_colors,
    output:
        picture=f"{OUT}/color/{{cell}}_color.png",
        thumbnail=report(
            f"{OUT}/color/{{cell}}_thumbnail.jpg",
            caption="report/color.rst",
            category="color",
            labels={"skycell": "{cell}"},
        ),
    log:
        f"{OUT}/logs/color/{{cell}}.log",
    benchmark:
        f"{OUT}/benchmarks/color/{{cell}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(30),
    params:
        parameters=CONFIG["color"],
        code=code_digest("color"),
    message:
        "color {wildcards.cell}"
    script:
        "../scripts/color.py"
