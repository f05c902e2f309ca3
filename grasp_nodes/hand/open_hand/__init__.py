"""The generator of the open hand: a procedural hand in MANO's format, our own and free (CC0-1.0).

``python -m grasp_nodes.hand.open_hand -o FILE`` builds it in the order of the files: `proportions` (bones from
published anthropometry), `field` (a signed distance made of swept spheres), `surgery` and `remesh` (778 vertices on
it), `skinning` (bone heat), `shape_space` (ten betas and the joint regressor), `pose_space` (mean pose and components),
`assemble` (MANO's numbering). Lengths are in mm inside this package and in m in the hand that it returns. It needs the
extra ``build-hand``; the library itself only reads the file that was built once and frozen as ``open_hand_v1``.
"""
