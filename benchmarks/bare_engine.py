"""llama.cpp's server by itself, on TCP like the gateway: what `generation.py` compares with.

python benchmarks/bare_engine.py MODEL.gguf PORT
"""

import sys
import time

import xllamacpp


def main() -> None:
    params = xllamacpp.CommonParams()
    params.model.path, params.port = sys.argv[1], int(sys.argv[2])
    params.n_parallel, params.n_ctx, params.kv_unified = 16, 16384, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
    params.verbosity, params.ui, params.cache_ram_mib = 1, False, 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
