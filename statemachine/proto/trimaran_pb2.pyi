from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Condition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALWAYS: _ClassVar[Condition]
    IF_ABSENT: _ClassVar[Condition]
    IF_PRESENT: _ClassVar[Condition]
    IF_EQUAL: _ClassVar[Condition]
    IF_DIFFERENT: _ClassVar[Condition]

class ExpireCondition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPIRE_ALWAYS: _ClassVar[ExpireCondition]
    EXPIRE_IF_NONE: _ClassVar[ExpireCondition]
    EXPIRE_IF_ANY: _ClassVar[ExpireCondition]
    EXPIRE_IF_LATER: _ClassVar[ExpireCondition]
    EXPIRE_IF_SOONER: _ClassVar[ExpireCondition]
ALWAYS: Condition
IF_ABSENT: Condition
IF_PRESENT: Condition
IF_EQUAL: Condition
IF_DIFFERENT: Condition
EXPIRE_ALWAYS: ExpireCondition
EXPIRE_IF_NONE: ExpireCondition
EXPIRE_IF_ANY: ExpireCondition
EXPIRE_IF_LATER: ExpireCondition
EXPIRE_IF_SOONER: ExpireCondition

class LogId(_message.Message):
    __slots__ = ("term", "index")
    TERM_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    term: int
    index: int
    def __init__(self, term: _Optional[int] = ..., index: _Optional[int] = ...) -> None: ...

class SnapshotMetadata(_message.Message):
    __slots__ = ("last_included", "checksum", "size_bytes")
    LAST_INCLUDED_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    last_included: LogId
    checksum: bytes
    size_bytes: int
    def __init__(self, last_included: _Optional[_Union[LogId, _Mapping]] = ..., checksum: _Optional[bytes] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class WriteCommand(_message.Message):
    __slots__ = ("insert", "delete", "compare_and_swap", "put", "delete_keys", "add", "expire", "persist", "flush")
    class Insert(_message.Message):
        __slots__ = ("key", "value", "ttl_secs", "ttl_ms", "expire_at_ms", "keep_ttl", "condition", "expected", "return_old")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        TTL_SECS_FIELD_NUMBER: _ClassVar[int]
        TTL_MS_FIELD_NUMBER: _ClassVar[int]
        EXPIRE_AT_MS_FIELD_NUMBER: _ClassVar[int]
        KEEP_TTL_FIELD_NUMBER: _ClassVar[int]
        CONDITION_FIELD_NUMBER: _ClassVar[int]
        EXPECTED_FIELD_NUMBER: _ClassVar[int]
        RETURN_OLD_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        value: bytes
        ttl_secs: int
        ttl_ms: int
        expire_at_ms: int
        keep_ttl: bool
        condition: Condition
        expected: bytes
        return_old: bool
        def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., ttl_secs: _Optional[int] = ..., ttl_ms: _Optional[int] = ..., expire_at_ms: _Optional[int] = ..., keep_ttl: _Optional[bool] = ..., condition: _Optional[_Union[Condition, str]] = ..., expected: _Optional[bytes] = ..., return_old: _Optional[bool] = ...) -> None: ...
    class Delete(_message.Message):
        __slots__ = ("key",)
        KEY_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        def __init__(self, key: _Optional[bytes] = ...) -> None: ...
    class CompareAndSwap(_message.Message):
        __slots__ = ("key", "expected_value", "new_value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        EXPECTED_VALUE_FIELD_NUMBER: _ClassVar[int]
        NEW_VALUE_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        expected_value: bytes
        new_value: bytes
        def __init__(self, key: _Optional[bytes] = ..., expected_value: _Optional[bytes] = ..., new_value: _Optional[bytes] = ...) -> None: ...
    class Put(_message.Message):
        __slots__ = ("keys", "values")
        KEYS_FIELD_NUMBER: _ClassVar[int]
        VALUES_FIELD_NUMBER: _ClassVar[int]
        keys: _containers.RepeatedScalarFieldContainer[bytes]
        values: _containers.RepeatedScalarFieldContainer[bytes]
        def __init__(self, keys: _Optional[_Iterable[bytes]] = ..., values: _Optional[_Iterable[bytes]] = ...) -> None: ...
    class DeleteKeys(_message.Message):
        __slots__ = ("keys",)
        KEYS_FIELD_NUMBER: _ClassVar[int]
        keys: _containers.RepeatedScalarFieldContainer[bytes]
        def __init__(self, keys: _Optional[_Iterable[bytes]] = ...) -> None: ...
    class Add(_message.Message):
        __slots__ = ("key", "delta")
        KEY_FIELD_NUMBER: _ClassVar[int]
        DELTA_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        delta: int
        def __init__(self, key: _Optional[bytes] = ..., delta: _Optional[int] = ...) -> None: ...
    class Expire(_message.Message):
        __slots__ = ("key", "ttl_ms", "expire_at_ms", "condition")
        KEY_FIELD_NUMBER: _ClassVar[int]
        TTL_MS_FIELD_NUMBER: _ClassVar[int]
        EXPIRE_AT_MS_FIELD_NUMBER: _ClassVar[int]
        CONDITION_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        ttl_ms: int
        expire_at_ms: int
        condition: ExpireCondition
        def __init__(self, key: _Optional[bytes] = ..., ttl_ms: _Optional[int] = ..., expire_at_ms: _Optional[int] = ..., condition: _Optional[_Union[ExpireCondition, str]] = ...) -> None: ...
    class Persist(_message.Message):
        __slots__ = ("key",)
        KEY_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        def __init__(self, key: _Optional[bytes] = ...) -> None: ...
    class Flush(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    INSERT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    COMPARE_AND_SWAP_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_KEYS_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_FIELD_NUMBER: _ClassVar[int]
    PERSIST_FIELD_NUMBER: _ClassVar[int]
    FLUSH_FIELD_NUMBER: _ClassVar[int]
    insert: WriteCommand.Insert
    delete: WriteCommand.Delete
    compare_and_swap: WriteCommand.CompareAndSwap
    put: WriteCommand.Put
    delete_keys: WriteCommand.DeleteKeys
    add: WriteCommand.Add
    expire: WriteCommand.Expire
    persist: WriteCommand.Persist
    flush: WriteCommand.Flush
    def __init__(self, insert: _Optional[_Union[WriteCommand.Insert, _Mapping]] = ..., delete: _Optional[_Union[WriteCommand.Delete, _Mapping]] = ..., compare_and_swap: _Optional[_Union[WriteCommand.CompareAndSwap, _Mapping]] = ..., put: _Optional[_Union[WriteCommand.Put, _Mapping]] = ..., delete_keys: _Optional[_Union[WriteCommand.DeleteKeys, _Mapping]] = ..., add: _Optional[_Union[WriteCommand.Add, _Mapping]] = ..., expire: _Optional[_Union[WriteCommand.Expire, _Mapping]] = ..., persist: _Optional[_Union[WriteCommand.Persist, _Mapping]] = ..., flush: _Optional[_Union[WriteCommand.Flush, _Mapping]] = ...) -> None: ...

class CommandList(_message.Message):
    __slots__ = ("commands",)
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    commands: _containers.RepeatedCompositeFieldContainer[WriteCommand]
    def __init__(self, commands: _Optional[_Iterable[_Union[WriteCommand, _Mapping]]] = ...) -> None: ...
