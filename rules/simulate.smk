rule simulate:
    output:
        exposure=f"{OUT}/simulate/{{exposure}}_cal.asdf",
        truth=f"{OUT}/simulate/{{exposure}}_truth.npz",
    log:
        f"{OUT}/logs/simulate/{{exposure}}.log",
    benchmark:
        f"{OUT}/benchmarks/simulate/{{exposure}}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=by_attempt(2500),
        runtime=by_attempt(20),
    params:
        parameters=CONFIG["simulate"],
        code=code_digest("simulate"),
    message:
        "simulate {wildcards.exposure}"
    script:
        "../scripts/simulate.py"


rule simulate_scene:
    output:
        scene=f"{OUT}/simulate/scene.ecsv",
    log:
        f"{OUT}/logs/simulate/scene.log",
    benchmark:
        f"{OUT}/benchmarks/simulate/scene.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(20),
    params:
        parameters=CONFIG["simulate"],
        code=code_digest("simulate"),
    message:
        "simulate the truth catalog"
    script:
        "../scripts/simulate.py"
