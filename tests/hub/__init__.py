"""A Hub on loopback: the real `huggingface_hub` client, `datasets` and `transformers` talk to it over HTTP.

    from hub import Hub, serving

    hub = Hub(folder)
    hub.add_user("ada", token="hf_ada", orgs={"acme": "write"})
    hub.add_repo("model", "acme/tiny", {"config.json": b"{}"}, private=True)
    hub.faults.add("PUT", r"^/lfs/", cut="upload", after_bytes=1_000_000)
    with serving(hub) as endpoint:
        HfApi(endpoint=endpoint, token="hf_ada").model_info("acme/tiny")
    assert hub.repo("model", "acme/tiny").files

Clients must run with HF_HUB_DISABLE_XET=1 to upload: the Hub's Xet storage is another protocol, which a server can't
decline. Each module says which part of the real Hub it stands for and where it is simpler; all of it is as
huggingface_hub 2.4 asks for it. Not here at all: pull requests, Spaces that run, buckets, search, web pages.
"""

from .serving import serving
from .state import Hub

__all__ = ["Hub", "serving"]
