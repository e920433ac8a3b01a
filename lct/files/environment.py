"""What is set in every process of ours before NumPy, SciPy, torch and POT load; imported for that."""

import gc
import os

# Sums are rounded differently with another number of threads. NumPy's and SciPy's are fixed here, before they load;
# torch's number is a setting. cuBLAS needs a fixed workspace to be deterministic: without it, torch refuses on a GPU.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
for _backend in ("JAX", "PYTORCH", "TENSORFLOW", "CUPY"):  # POT would import each, for seconds; plans are NumPy here
    os.environ.setdefault(f"POT_BACKEND_DISABLE_{_backend}", "1")
GARBAGE = gc.get_threshold()  # Python's own, which a job goes back to
gc.set_threshold(100_000, 50, 50)  # what is imported stays: looking for garbage in it is a seventh of importing torch
