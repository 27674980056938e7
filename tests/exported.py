"""A tiny network as torch exports it, which takes seconds: made once, and given to all tests that need one."""

import onnx

from hat_sr import export
from hat_sr.checkpoints.checkpoint import METADATA_KEY, description
from hat_sr.runtime import openvino
from model.tiny import tiny_model

PROVENANCE = {"title": "a tiny one", "data": "none – a formula"}


class Exported:
    """The network, the content of its ONNX file without metadata, and files of both kinds in a folder."""

    def __init__(self, folder):
        self.model = tiny_model()
        self.content = export.to_onnx(self.model, window_size=4)
        metadata = {METADATA_KEY: description(self.model.config, PROVENANCE)}
        self.onnx, self.xml = folder / "tiny.onnx", folder / "tiny.xml"
        self.onnx.write_bytes(with_metadata(self.content, metadata))
        openvino.write_xml(self.content, self.xml, metadata=metadata, half=False)

    def instead_of_torch(self, monkeypatch):
        """Let `hat_sr.export` find this export made, whatever network it is to export."""
        monkeypatch.setattr(
            export, "to_onnx", lambda module, metadata=None, **_: with_metadata(self.content, metadata or {})
        )


def with_metadata(content, metadata):
    proto = onnx.load_from_string(content)
    onnx.helper.set_model_props(proto, metadata)
    return proto.SerializeToString()
