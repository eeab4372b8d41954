"""open_clip without what plain towers never use, which takes most of the time of importing it.

open_clip imports timm and transformers where they are installed, for towers made of them, the client of the Hugging
Face Hub, and some modules of torchvision, whose package brings in its models, its operators and torch's compiler.
`import_plain` leaves out the first three, as open_clip allows for, and takes torchvision's modules alone: the package
is initialised when anything else is asked of it. For a command that loads plain towers and ends; `import_rest` makes up
for what is missing.
"""

import importlib
import importlib.util
import sys
from typing import Any

OPTIONAL = ("timm", "transformers", "huggingface_hub")
PACKAGES = ("torchvision", "torchvision.ops")
# Module of open_clip -> what is None in it where it was left out.
USERS = {"timm_model": "timm", "hf_model": "transformers", "pretrained": "hf_hub_download"}


def import_plain() -> None:
    """Import open_clip for towers of its own, unless it or what it uses is there already."""
    if {"open_clip", *PACKAGES} & {*sys.modules}:
        return
    absent = [name for name in OPTIONAL if name not in sys.modules]
    try:
        for name in PACKAGES:
            _begin(name)
        modules: dict[str, Any] = vars(sys)["modules"]
        modules.update(dict.fromkeys(absent))  # None: importing it raises ImportError
        importlib.import_module("open_clip")
    except Exception:  # a version that needs more than these do today
        for name in [name for name in sys.modules if name.partition(".")[0] in ("open_clip", "torchvision")]:
            del sys.modules[name]
    finally:
        for name in absent:
            sys.modules.pop(name, None)


def import_rest() -> None:
    """Give open_clip what `import_plain` left out: for towers made of timm or transformers, and for downloads."""
    for name, used in USERS.items():
        module = sys.modules.get(f"open_clip.{name}")
        if module is not None and getattr(module, used, True) is None:
            importlib.reload(module)  # in its own namespace, where the classes that are in use look


def _begin(name: str) -> None:
    """Put a package into place whose modules can be imported, and which is initialised when more is asked of it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(name)
    loader, package = spec.loader, importlib.util.module_from_spec(spec)

    def initialised(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        del package.__getattr__
        loader.exec_module(package)
        return getattr(package, name)

    package.__getattr__ = initialised
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)
