"""The generated protobuf module, alone in its room.

`trimaran_pb2.py` and `.pyi` are written by scripts/proto from trimaran.proto and
never by hand. Only statemachine.commands imports them: everyone else deals in
its values, or in the message classes that it passes on.

Proved by: tests/statemachine/test_proto_current.py
"""
