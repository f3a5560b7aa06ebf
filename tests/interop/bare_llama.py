"""llama.cpp's server as others run it: open to its whole API, with its own queue, and nothing of ours set.

python tests/interop/bare_llama.py MODEL.gguf PORT
"""

import sys
import threading

import xllamacpp

SLOTS, CONTEXT = 16, 16384


def main() -> None:
    params = xllamacpp.CommonParams()
    params.model.path, params.hostnames, params.port = sys.argv[1], ["127.0.0.1"], int(sys.argv[2])
    params.n_parallel, params.n_ctx, params.kv_unified = SLOTS, CONTEXT, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
    params.verbosity = 1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
