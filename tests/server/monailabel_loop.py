"""The loop of annotation as MONAI Label's own client drives it, which 3D Slicer's extension contains.

python monailabel_loop.py ADDRESS LABEL-MAP FOLDER
"""

import json
import sys
import time
from pathlib import Path

from monailabel.client import MONAILabelClient  # type: ignore[import-not-found]

address, label, folder = sys.argv[1:]
client = MONAILabelClient(address, tmpdir=folder, client_id="ann")
label_info = [{"name": "liver", "idx": 1}, {"name": "tumor", "idx": 2}]
seen = {}

info = client.info()
model, strategy = next(iter(info["trainers"])), next(iter(info["strategies"]))
seen["info"] = {"labels": info["labels"], "models": list(info["models"]), "auth": client.auth_enabled()}

sample = client.next_sample(strategy, {})
seen["sample"] = sample
seen["saved"] = client.save_label(sample["id"], label, params={"label_info": label_info})
seen["uploaded"] = client.upload_image(sample["path"], "uploaded")

seen["started"] = client.train_start(model, {"steps": 2})
while client.train_status(check_if_running=True):
    time.sleep(0.2)
seen["trained"] = client.train_status()

file, params = client.infer(model, sample["id"], {})
seen["infer"] = {"file": file, "params": params}
session = client.create_session(sample["path"])["session_id"]
file, params = client.infer(model, "", {"result_extension": ".nrrd"}, session_id=session)
seen["session"] = {"file": file, "params": params, "removed": client.remove_session(session)["name"] == session}
seen["downloaded"] = client.download_label(sample["id"], "final")
seen["datastore"] = client.datastore()["objects"][sample["id"]]["labels"]
seen["stopped"] = client.train_stop()

Path(folder, "seen.json").write_text(json.dumps(seen), encoding="utf-8")
