"""
The script of the rule `source_catalog` as a program: `catalog_process.py <settings in JSON>`.

Snakemake writes an object `snakemake` in front of the script; this makes the same from the settings.
"""

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

SCRIPTS = Path(__file__).parents[2] / "scripts"

settings = json.loads(sys.argv[1])
for name in ("input", "params"):
    settings[name] = SimpleNamespace(**settings[name])
sys.path.insert(0, str(SCRIPTS))
names = {"snakemake": SimpleNamespace(**settings)}
runpy.run_path(str(SCRIPTS / "source_catalog.py"), names, run_name="__main__")
