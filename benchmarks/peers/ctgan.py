"""Rows like those of a table, by CTGAN (Xu, Skoularidou, Cuesta-Infante, Veeramachaneni 2019), its defaults.

Run as `python -P SCRIPT TABLE.csv OUT.csv ROWS SEED [COLUMN of categories …]`; prints {"seconds"}.
"""

import json
import sys
import time

import numpy as np
import pandas
import torch
from ctgan import CTGAN

table, out, rows, seed, *categories = sys.argv[1:]
np.random.seed(int(seed))
torch.manual_seed(int(seed))
torch.set_num_threads(1)
training = pandas.read_csv(table)
begun = time.perf_counter()
model = CTGAN(verbose=False)
model.fit(training, discrete_columns=categories)
model.sample(int(rows)).to_csv(out, index=False)
print(json.dumps({"seconds": time.perf_counter() - begun}))
