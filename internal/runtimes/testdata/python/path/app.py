import os
import sys

import from_layer
import vendored


def handler(event, context):
    path = [p.replace(sys.base_prefix, "/var/lang") for p in sys.path]
    return {
        "argv": [os.path.basename(a) for a in sys.argv],
        "path": [p for p in path if not p.startswith("/var/lang") and "dist-packages" not in p],
        "layers": os.environ.get("_MAYFLY_LAYERS_DIR"),
        "cwd": os.getcwd(),
        "found": [from_layer.VALUE, vendored.VALUE],
    }
