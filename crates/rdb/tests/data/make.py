"""Fills a server with the data set of tests/real_files.rs, for its RDB file to become a fixture.

usage: make.py PORT [ttl] [functions]      then SAVE, and take the server's dump file
"""
import socket
import sys

FAR = 4102444800000  # 2100-01-01, in milliseconds


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")

    def __call__(self, *args):
        args = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
        self.socket.sendall(b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args))
        return self.reply()

    def reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise SystemExit(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return rest


def main():
    call = Connection(int(sys.argv[1]))
    call("FLUSHALL")
    long = "v" * 80
    strings = {
        "raw": "hello world", "empty": "", "int8": "-5", "int16": "1000", "int32": "-100000",
        "int64": "1234567890123", "zeros": "007", "lzf": "a" * 300, "bytes": bytes(range(256)), "12345": "by number",
        "k" * 100: "by a compressed key",
    }
    for key, value in strings.items():
        call("SET", key, value)
    call("RPUSH", "list:packed", "1", "-1", "abc", "70000", str(1 << 40))
    call("RPUSH", "list:nodes", *[f"element {n}" for n in range(600)])
    call("CONFIG", "SET", "list-max-listpack-size", "-1")
    call("RPUSH", "list:plain", "x" * 5000, "after")
    call("CONFIG", "SET", "list-max-listpack-size", "-2")
    call("SADD", "set:intset", -1, 2, 70000, 1 << 40)
    call("SADD", "set:small", "a", "b", 3)
    call("SADD", "set:table", "a", 4, long)
    call("ZADD", "zset:small", 1, "a", 2.5, "b", "-inf", "c", "inf", "d")
    call("ZADD", "zset:table", 0.1, "a", "-inf", "b", 1e100, long)
    call("HSET", "hash:small", "f", "v", "n", "17")
    call("HSET", "hash:table", "f", long, "n", "17")
    for n, key in enumerate(["raw", "list:packed", "set:table", "zset:small", "hash:table"]):
        call("PEXPIREAT", key, FAR + n)
    if "ttl" in sys.argv:
        call("HSET", "ttl:small", "f", "v", "g", "w", "h", "x")
        call("HPEXPIREAT", "ttl:small", FAR + 5, "FIELDS", 1, "g")
        call("HPEXPIREAT", "ttl:small", FAR + 4, "FIELDS", 1, "h")
        call("HSET", "ttl:table", "f", long, "g", "w", "h", "x")
        call("HPEXPIREAT", "ttl:table", FAR + 7, "FIELDS", 1, "f")
        call("HPEXPIREAT", "ttl:table", FAR + 6, "FIELDS", 1, "g")
    if "functions" in sys.argv:
        call("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
    call("SELECT", 3)
    call("SET", "raw", "in database 3")
    call("SELECT", 15)
    call("PSETEX", "raw", 10**12, "in database 15")
    call("PEXPIREAT", "raw", FAR)


main()
