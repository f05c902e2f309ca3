"""A stand-in for the reconstruction of a clip, for workers in other processes; imports nothing that is slow."""

import json
import os
import signal

from grasp_nodes.errors import InputError


def counting_job(fields, key):
    """Stands for a reconstruction: notes that it began, and dies, fails or answers as the clip's name says."""
    clip, output = fields["clip"], fields["output"]
    output.mkdir(parents=True, exist_ok=True)
    with (output / "begun").open("a") as log:
        log.write(".")
    begun = len((output / "begun").read_text())
    if "dies" in clip and begun == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if "fails" in clip:
        raise InputError(f"{clip}: no such luck")
    if "once" in clip and begun == 1:
        raise InputError("only the first time")
    answer = {"key": key, "exit_code": 0, "clip": clip, "frames_out": 3, "found_share": 0.5, "pid": os.getpid()}
    answer["seconds"] = {"perception_s": 1.25, "joint_fit_s": 2.5, "contact_s": 0.5}
    return json.dumps(answer).encode()
