"""
One run of romancal's SourceCatalogStep: `romancal_catalog.py <coadd> <output folder> <epsf> <apcorr>`.

runs under romancal's own Python. What is not romancal as it comes is told in `romancal_process`.
"""

import sys

from romancal.source_catalog import _source_catalog, source_catalog_step
from romancal_process import refuse
from stpipe import crds_client

coadd, folder, epsf, apcorr = sys.argv[1:]
crds_client.get_context_used = lambda observatory: "none: offline"
_source_catalog.getreferences = refuse
step = source_catalog_step.SourceCatalogStep()
step.override_epsf, step.override_apcorr = epsf, apcorr
step.save_results, step.output_dir = True, folder
step.run(coadd)
