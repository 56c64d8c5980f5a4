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
    IF_REVISION: _ClassVar[Condition]

class ExpireCondition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPIRE_ALWAYS: _ClassVar[ExpireCondition]
    EXPIRE_IF_NONE: _ClassVar[ExpireCondition]
    EXPIRE_IF_ANY: _ClassVar[ExpireCondition]
    EXPIRE_IF_LATER: _ClassVar[ExpireCondition]
    EXPIRE_IF_SOONER: _ClassVar[ExpireCondition]
    EXPIRE_IF_ANY_SOONER: _ClassVar[ExpireCondition]
ALWAYS: Condition
IF_ABSENT: Condition
IF_PRESENT: Condition
IF_EQUAL: Condition
IF_DIFFERENT: Condition
IF_REVISION: Condition
EXPIRE_ALWAYS: ExpireCondition
EXPIRE_IF_NONE: ExpireCondition
EXPIRE_IF_ANY: ExpireCondition
EXPIRE_IF_LATER: ExpireCondition
EXPIRE_IF_SOONER: ExpireCondition
EXPIRE_IF_ANY_SOONER: ExpireCondition

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
    __slots__ = ("insert", "delete", "compare_and_swap", "put", "delete_keys", "add", "expire", "persist", "flush", "insert_many", "remove", "get_and_expire", "append", "set_range", "set_bit", "add_float", "move", "read", "transaction", "publish", "grant_lease", "keep_lease_alive", "revoke_lease")
    class Insert(_message.Message):
        __slots__ = ("key", "value", "ttl_secs", "ttl_ms", "expire_at_ms", "keep_ttl", "condition", "expected", "return_old", "revision", "lease")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        TTL_SECS_FIELD_NUMBER: _ClassVar[int]
        TTL_MS_FIELD_NUMBER: _ClassVar[int]
        EXPIRE_AT_MS_FIELD_NUMBER: _ClassVar[int]
        KEEP_TTL_FIELD_NUMBER: _ClassVar[int]
        CONDITION_FIELD_NUMBER: _ClassVar[int]
        EXPECTED_FIELD_NUMBER: _ClassVar[int]
        RETURN_OLD_FIELD_NUMBER: _ClassVar[int]
        REVISION_FIELD_NUMBER: _ClassVar[int]
        LEASE_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        value: bytes
        ttl_secs: int
        ttl_ms: int
        expire_at_ms: int
        keep_ttl: bool
        condition: Condition
        expected: bytes
        return_old: bool
        revision: int
        lease: int
        def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., ttl_secs: _Optional[int] = ..., ttl_ms: _Optional[int] = ..., expire_at_ms: _Optional[int] = ..., keep_ttl: _Optional[bool] = ..., condition: _Optional[_Union[Condition, str]] = ..., expected: _Optional[bytes] = ..., return_old: _Optional[bool] = ..., revision: _Optional[int] = ..., lease: _Optional[int] = ...) -> None: ...
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
        __slots__ = ("key", "ttl_ms", "expire_at_ms", "condition", "expected", "extend")
        KEY_FIELD_NUMBER: _ClassVar[int]
        TTL_MS_FIELD_NUMBER: _ClassVar[int]
        EXPIRE_AT_MS_FIELD_NUMBER: _ClassVar[int]
        CONDITION_FIELD_NUMBER: _ClassVar[int]
        EXPECTED_FIELD_NUMBER: _ClassVar[int]
        EXTEND_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        ttl_ms: int
        expire_at_ms: int
        condition: ExpireCondition
        expected: bytes
        extend: bool
        def __init__(self, key: _Optional[bytes] = ..., ttl_ms: _Optional[int] = ..., expire_at_ms: _Optional[int] = ..., condition: _Optional[_Union[ExpireCondition, str]] = ..., expected: _Optional[bytes] = ..., extend: _Optional[bool] = ...) -> None: ...
    class Persist(_message.Message):
        __slots__ = ("key",)
        KEY_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        def __init__(self, key: _Optional[bytes] = ...) -> None: ...
    class Flush(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class InsertMany(_message.Message):
        __slots__ = ("keys", "values", "condition", "ttl_ms", "expire_at_ms", "keep_ttl")
        KEYS_FIELD_NUMBER: _ClassVar[int]
        VALUES_FIELD_NUMBER: _ClassVar[int]
        CONDITION_FIELD_NUMBER: _ClassVar[int]
        TTL_MS_FIELD_NUMBER: _ClassVar[int]
        EXPIRE_AT_MS_FIELD_NUMBER: _ClassVar[int]
        KEEP_TTL_FIELD_NUMBER: _ClassVar[int]
        keys: _containers.RepeatedScalarFieldContainer[bytes]
        values: _containers.RepeatedScalarFieldContainer[bytes]
        condition: Condition
        ttl_ms: int
        expire_at_ms: int
        keep_ttl: bool
        def __init__(self, keys: _Optional[_Iterable[bytes]] = ..., values: _Optional[_Iterable[bytes]] = ..., condition: _Optional[_Union[Condition, str]] = ..., ttl_ms: _Optional[int] = ..., expire_at_ms: _Optional[int] = ..., keep_ttl: _Optional[bool] = ...) -> None: ...
    class Remove(_message.Message):
        __slots__ = ("key", "condition", "expected", "return_old")
        KEY_FIELD_NUMBER: _ClassVar[int]
        CONDITION_FIELD_NUMBER: _ClassVar[int]
        EXPECTED_FIELD_NUMBER: _ClassVar[int]
        RETURN_OLD_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        condition: Condition
        expected: bytes
        return_old: bool
        def __init__(self, key: _Optional[bytes] = ..., condition: _Optional[_Union[Condition, str]] = ..., expected: _Optional[bytes] = ..., return_old: _Optional[bool] = ...) -> None: ...
    class GetAndExpire(_message.Message):
        __slots__ = ("key", "ttl_ms", "expire_at_ms", "persist")
        KEY_FIELD_NUMBER: _ClassVar[int]
        TTL_MS_FIELD_NUMBER: _ClassVar[int]
        EXPIRE_AT_MS_FIELD_NUMBER: _ClassVar[int]
        PERSIST_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        ttl_ms: int
        expire_at_ms: int
        persist: bool
        def __init__(self, key: _Optional[bytes] = ..., ttl_ms: _Optional[int] = ..., expire_at_ms: _Optional[int] = ..., persist: _Optional[bool] = ...) -> None: ...
    class Append(_message.Message):
        __slots__ = ("key", "value", "bytes_max")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        value: bytes
        bytes_max: int
        def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., bytes_max: _Optional[int] = ...) -> None: ...
    class SetRange(_message.Message):
        __slots__ = ("key", "offset", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        OFFSET_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        offset: int
        value: bytes
        def __init__(self, key: _Optional[bytes] = ..., offset: _Optional[int] = ..., value: _Optional[bytes] = ...) -> None: ...
    class SetBit(_message.Message):
        __slots__ = ("key", "offset", "bit")
        KEY_FIELD_NUMBER: _ClassVar[int]
        OFFSET_FIELD_NUMBER: _ClassVar[int]
        BIT_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        offset: int
        bit: bool
        def __init__(self, key: _Optional[bytes] = ..., offset: _Optional[int] = ..., bit: _Optional[bool] = ...) -> None: ...
    class AddFloat(_message.Message):
        __slots__ = ("key", "increment")
        KEY_FIELD_NUMBER: _ClassVar[int]
        INCREMENT_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        increment: bytes
        def __init__(self, key: _Optional[bytes] = ..., increment: _Optional[bytes] = ...) -> None: ...
    class Move(_message.Message):
        __slots__ = ("source", "destination", "if_absent", "keep_source")
        SOURCE_FIELD_NUMBER: _ClassVar[int]
        DESTINATION_FIELD_NUMBER: _ClassVar[int]
        IF_ABSENT_FIELD_NUMBER: _ClassVar[int]
        KEEP_SOURCE_FIELD_NUMBER: _ClassVar[int]
        source: bytes
        destination: bytes
        if_absent: bool
        keep_source: bool
        def __init__(self, source: _Optional[bytes] = ..., destination: _Optional[bytes] = ..., if_absent: _Optional[bool] = ..., keep_source: _Optional[bool] = ...) -> None: ...
    class Read(_message.Message):
        __slots__ = ("keys", "page_count", "page_after")
        KEYS_FIELD_NUMBER: _ClassVar[int]
        PAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
        PAGE_AFTER_FIELD_NUMBER: _ClassVar[int]
        keys: _containers.RepeatedScalarFieldContainer[bytes]
        page_count: int
        page_after: bytes
        def __init__(self, keys: _Optional[_Iterable[bytes]] = ..., page_count: _Optional[int] = ..., page_after: _Optional[bytes] = ...) -> None: ...
    class Watch(_message.Message):
        __slots__ = ("key", "revision", "seen")
        KEY_FIELD_NUMBER: _ClassVar[int]
        REVISION_FIELD_NUMBER: _ClassVar[int]
        SEEN_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        revision: int
        seen: int
        def __init__(self, key: _Optional[bytes] = ..., revision: _Optional[int] = ..., seen: _Optional[int] = ...) -> None: ...
    class Transaction(_message.Message):
        __slots__ = ("watches", "commands")
        WATCHES_FIELD_NUMBER: _ClassVar[int]
        COMMANDS_FIELD_NUMBER: _ClassVar[int]
        watches: _containers.RepeatedCompositeFieldContainer[WriteCommand.Watch]
        commands: CommandList
        def __init__(self, watches: _Optional[_Iterable[_Union[WriteCommand.Watch, _Mapping]]] = ..., commands: _Optional[_Union[CommandList, _Mapping]] = ...) -> None: ...
    class Publish(_message.Message):
        __slots__ = ("channel", "message", "sharded")
        CHANNEL_FIELD_NUMBER: _ClassVar[int]
        MESSAGE_FIELD_NUMBER: _ClassVar[int]
        SHARDED_FIELD_NUMBER: _ClassVar[int]
        channel: bytes
        message: bytes
        sharded: bool
        def __init__(self, channel: _Optional[bytes] = ..., message: _Optional[bytes] = ..., sharded: _Optional[bool] = ...) -> None: ...
    class GrantLease(_message.Message):
        __slots__ = ("ttl_ms", "id")
        TTL_MS_FIELD_NUMBER: _ClassVar[int]
        ID_FIELD_NUMBER: _ClassVar[int]
        ttl_ms: int
        id: int
        def __init__(self, ttl_ms: _Optional[int] = ..., id: _Optional[int] = ...) -> None: ...
    class KeepLeaseAlive(_message.Message):
        __slots__ = ("id",)
        ID_FIELD_NUMBER: _ClassVar[int]
        id: int
        def __init__(self, id: _Optional[int] = ...) -> None: ...
    class RevokeLease(_message.Message):
        __slots__ = ("id",)
        ID_FIELD_NUMBER: _ClassVar[int]
        id: int
        def __init__(self, id: _Optional[int] = ...) -> None: ...
    INSERT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    COMPARE_AND_SWAP_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_KEYS_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_FIELD_NUMBER: _ClassVar[int]
    PERSIST_FIELD_NUMBER: _ClassVar[int]
    FLUSH_FIELD_NUMBER: _ClassVar[int]
    INSERT_MANY_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    GET_AND_EXPIRE_FIELD_NUMBER: _ClassVar[int]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    SET_RANGE_FIELD_NUMBER: _ClassVar[int]
    SET_BIT_FIELD_NUMBER: _ClassVar[int]
    ADD_FLOAT_FIELD_NUMBER: _ClassVar[int]
    MOVE_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    GRANT_LEASE_FIELD_NUMBER: _ClassVar[int]
    KEEP_LEASE_ALIVE_FIELD_NUMBER: _ClassVar[int]
    REVOKE_LEASE_FIELD_NUMBER: _ClassVar[int]
    insert: WriteCommand.Insert
    delete: WriteCommand.Delete
    compare_and_swap: WriteCommand.CompareAndSwap
    put: WriteCommand.Put
    delete_keys: WriteCommand.DeleteKeys
    add: WriteCommand.Add
    expire: WriteCommand.Expire
    persist: WriteCommand.Persist
    flush: WriteCommand.Flush
    insert_many: WriteCommand.InsertMany
    remove: WriteCommand.Remove
    get_and_expire: WriteCommand.GetAndExpire
    append: WriteCommand.Append
    set_range: WriteCommand.SetRange
    set_bit: WriteCommand.SetBit
    add_float: WriteCommand.AddFloat
    move: WriteCommand.Move
    read: WriteCommand.Read
    transaction: WriteCommand.Transaction
    publish: WriteCommand.Publish
    grant_lease: WriteCommand.GrantLease
    keep_lease_alive: WriteCommand.KeepLeaseAlive
    revoke_lease: WriteCommand.RevokeLease
    def __init__(self, insert: _Optional[_Union[WriteCommand.Insert, _Mapping]] = ..., delete: _Optional[_Union[WriteCommand.Delete, _Mapping]] = ..., compare_and_swap: _Optional[_Union[WriteCommand.CompareAndSwap, _Mapping]] = ..., put: _Optional[_Union[WriteCommand.Put, _Mapping]] = ..., delete_keys: _Optional[_Union[WriteCommand.DeleteKeys, _Mapping]] = ..., add: _Optional[_Union[WriteCommand.Add, _Mapping]] = ..., expire: _Optional[_Union[WriteCommand.Expire, _Mapping]] = ..., persist: _Optional[_Union[WriteCommand.Persist, _Mapping]] = ..., flush: _Optional[_Union[WriteCommand.Flush, _Mapping]] = ..., insert_many: _Optional[_Union[WriteCommand.InsertMany, _Mapping]] = ..., remove: _Optional[_Union[WriteCommand.Remove, _Mapping]] = ..., get_and_expire: _Optional[_Union[WriteCommand.GetAndExpire, _Mapping]] = ..., append: _Optional[_Union[WriteCommand.Append, _Mapping]] = ..., set_range: _Optional[_Union[WriteCommand.SetRange, _Mapping]] = ..., set_bit: _Optional[_Union[WriteCommand.SetBit, _Mapping]] = ..., add_float: _Optional[_Union[WriteCommand.AddFloat, _Mapping]] = ..., move: _Optional[_Union[WriteCommand.Move, _Mapping]] = ..., read: _Optional[_Union[WriteCommand.Read, _Mapping]] = ..., transaction: _Optional[_Union[WriteCommand.Transaction, _Mapping]] = ..., publish: _Optional[_Union[WriteCommand.Publish, _Mapping]] = ..., grant_lease: _Optional[_Union[WriteCommand.GrantLease, _Mapping]] = ..., keep_lease_alive: _Optional[_Union[WriteCommand.KeepLeaseAlive, _Mapping]] = ..., revoke_lease: _Optional[_Union[WriteCommand.RevokeLease, _Mapping]] = ...) -> None: ...

class CommandList(_message.Message):
    __slots__ = ("commands",)
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    commands: _containers.RepeatedCompositeFieldContainer[WriteCommand]
    def __init__(self, commands: _Optional[_Iterable[_Union[WriteCommand, _Mapping]]] = ...) -> None: ...
