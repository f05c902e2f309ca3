"""The data sets of grasps that can be read: where each comes from, how it must lie on the disk, and its reader.

The readers are imported when they are used. None of the data travels with the package, and none is downloaded.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.data.published import PublishedDataset, find_published

_PACKAGE = "grasp_nodes.data.grasp_readers"


@dataclass(frozen=True)
class GraspReader(PublishedDataset):
    """One data set.

    module, function: the reader, in this room.
    """

    module: str
    function: str

    def read(self, folder: str | Path, **options: Any) -> LabelledGrasps:
        """The grasps of a folder; the options are those of the reader's function.

        Raises:
            MissingFileError: a file is not there; the message says where the data set comes from.
            InputError: a file is not what it should be.
        """
        return getattr(importlib.import_module(f"{_PACKAGE}.{self.module}"), self.function)(Path(folder), **options)


_MPI = "free for non-commercial research after registration; no redistribution"

READERS: Mapping[str, GraspReader] = {
    "grab": GraspReader(
        "GRAB",
        "https://grab.is.tue.mpg.de",
        _MPI,
        "grab/s1/airplane_fly_1.npz ... grab/s10/*.npz; tools/object_meshes/contact_meshes/*.ply; "
        "tools/subject_meshes/{male,female}/s1_rhand.ply and s1.ply",
        "grab",
        "read_grab",
    ),
    "grabnet": GraspReader(
        "the GrabNet data of GRAB",
        "https://grab.is.tue.mpg.de",
        _MPI,
        "data/sbj_info.npy; data/{train,val,test}/grabnet_{train,val,test}.npz and frame_names.npz; "
        "tools/object_meshes/contact_meshes/*.ply",
        "grabnet",
        "read_grabnet",
    ),
    "arctic": GraspReader(
        "ARCTIC",
        "https://arctic.is.tue.mpg.de",
        _MPI,
        "meta/object_vtemplates/box/{mesh.obj,top.obj,bottom.obj,parts.json}; "
        "raw_seqs/s01/box_grab_01.{mano.npy,object.npy}; splits_json/protocol_p1.json for its splits",
        "arctic",
        "read_arctic",
    ),
    "obman": GraspReader(
        "ObMan",
        "https://www.di.ens.fr/willow/research/obman/data",
        "free for non-commercial research on request; its objects are ShapeNetCore.v2 (https://shapenet.org), which "
        "has terms of its own",
        "{train,val,test}/meta/00000000.pkl; ShapeNetCore.v2/02876657/ID/models/model_normalized.obj",
        "obman",
        "read_obman",
    ),
    "oakink_image": GraspReader(
        "OakInk-Image",
        "https://oakink.net",
        "free for non-commercial research; the annotations (anno_v2_1.zip) are asked for with a form",
        "image/anno/{seq_all.json,general_info/*.pkl,hand_j/*.pkl,obj_transf/*.pkl,split,split_train_val}; "
        "image/obj/A01001.obj ...",
        "oakink_image",
        "read_oakink_image",
    ),
    "oakink_shape": GraspReader(
        "OakInk-Shape",
        "https://oakink.net",
        "free for non-commercial research",
        "shape/oakink_shape_v2/bottle/A16012/0cc013118e/{hand_param.pkl,source.txt,s16101/hand_param.pkl}; "
        "shape/metaV2/{object_id.json,virtual_object_id.json}; "
        "shape/{OakInkObjectsV2,OakInkVirtualObjectsV2}/NAME/{align,align_ds}/*.obj or *.ply",
        "oakink_shape",
        "read_oakink_shape",
    ),
    "contactpose": GraspReader(
        "ContactPose",
        "https://contactpose.cc.gatech.edu (downloader: scripts/download_data.py --type grasps, contact_maps, 3Dmodels "
        "of https://github.com/facebookresearch/ContactPose)",
        "MIT; the 3D models have licences of their own",
        "contactpose_data/full1_use/apple/{annotations.json,mano_fits_15.json,apple.ply}; object_models/apple.ply",
        "contactpose",
        "read_contactpose",
    ),
}
"""Name to data set; the names are those of `LabelledGrasps.source`."""


def find_reader(name: str) -> GraspReader:
    """The data set of that name.

    Raises:
        InputError: there is none; the message lists them.
    """
    return find_published(name, READERS)


def require(name: str, path: Path, what: str = "file") -> Path:
    """The path, if it is there.

    Args:
        name: of the data set. path: a file or folder of it. what: it is, for the message.

    Raises:
        MissingFileError: it is not there; the message says where the data set comes from and how it must lie.
    """
    return READERS[name].require(path, what)
