"""A tiny network as torch exports it, which takes seconds: made once, and given to all tests that need one."""

import fcntl

import onnx

from hat_sr import export
from hat_sr.checkpoints.checkpoint import METADATA_KEY, description
from hat_sr.runtime import openvino
from model.tiny import tiny_model

PROVENANCE = {"title": "a tiny one", "data": "none – a formula"}


class Exported:
    """The network, the content of its ONNX file without metadata, and files of both kinds in a folder.

    Tests that run in several processes share the folder: the first one makes the files.
    """

    def __init__(self, folder):
        self.model = tiny_model()
        self.onnx, self.xml, plain = folder / "tiny.onnx", folder / "tiny.xml", folder / "plain.onnx"
        folder.mkdir(exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not plain.exists():
                content = export.to_onnx(self.model, window_size=4)
                metadata = {METADATA_KEY: description(self.model.config, PROVENANCE)}
                self.onnx.write_bytes(with_metadata(content, metadata))
                openvino.write_xml(content, self.xml, metadata=metadata, half=False)
                plain.write_bytes(content)
        self.content = plain.read_bytes()

    def instead_of_torch(self, monkeypatch):
        """Let `hat_sr.export` find this export made, whatever network it is to export."""
        monkeypatch.setattr(
            export, "to_onnx", lambda module, metadata=None, **_: with_metadata(self.content, metadata or {})
        )


def with_metadata(content, metadata):
    proto = onnx.load_from_string(content)
    onnx.helper.set_model_props(proto, metadata)
    return proto.SerializeToString()
