"""A second implementation of docs/protocol.md, with nothing of the first in it: an operator, a worker and an observer.

    peer.py operator KEYS URL NAME CLIENT COMMAND [ARGS]   prints the verified final reply
    peer.py worker   KEYS URL NAME                         replies until it receives `terminate`
    peer.py observer KEYS URL                              prints every message, one line each

Every line on standard output is JSON. It needs nats-py and pycryptodome (tools/requirements-peer.txt).
"""

import asyncio, base64, hashlib, json, re, secrets, sys, time, uuid
from pathlib import Path

import nats.aio.client
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa

SIGNATURE, CREDENTIAL = "Countersign-Signature", "Countersign-Credential"
SKEW, HEARTBEAT, LONGEST_LIFE = 5_000, 10_000, 60_000

def demand(holds, otherwise):
    if not holds:
        raise ValueError(otherwise)

emit = lambda thing: print(json.dumps(thing), flush=True)
now = lambda: time.time_ns() // 1_000_000
digest = lambda data: "sha256:" + hashlib.sha256(data).hexdigest()
encode = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()

def decode(text):
    demand(re.fullmatch("[A-Za-z0-9_-]*", text), "not base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    demand(encode(data) == text, "base64url that is not canonical")
    return data

def parse(data):
    """Section 3, except for what Python's parser refuses anyway."""

    def members(pairs):
        demand(len(dict(pairs)) == len(pairs), "a member twice")
        return dict(pairs)

    def integer(text):
        demand(len(text) < 18 and abs(int(text)) < 2**53, "an integer out of range")
        return int(text)

    never = lambda text: demand(False, text)
    value = json.loads(data.decode(), object_pairs_hook=members, parse_int=integer, parse_constant=never)
    demand(isinstance(value, dict), "not an object")
    demand(count(value) <= 16_384, "too many values")
    return value

def count(value):
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(count, members))

def thumbprint(x):
    return encode(hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest())

def sign(key, kind, body):
    """The protected header, and the signature of it and the body (section 2)."""
    x = encode(key.public_key().export_key(format="raw"))
    protected = encode(json.dumps({"alg": "EdDSA", "kid": thumbprint(x), "typ": "countersign-" + kind}).encode())
    return protected, encode(eddsa.new(key, "rfc8032").sign(f"{protected}.{encode(body)}".encode()))

def check(protected, payload, signature, kind, keys):
    """That one of the keys, which are known by their thumbprints, signed this. Returns its thumbprint."""
    header = parse(decode(protected))
    demand(set(header) == {"alg", "kid", "typ"} and header["alg"] == "EdDSA", "protected header")
    demand(header["typ"] == "countersign-" + kind, "another type")
    demand(header["kid"] in keys, "an unknown key")
    key = eddsa.import_public_key(decode(keys[header["kid"]]))
    # What does not hold, or is no point, is a ValueError.
    eddsa.new(key, "rfc8032").verify(f"{protected}.{payload}".encode(), decode(signature))
    return header["kid"]

class Realm:
    """The contents of trust.json and the pin (section 7)."""

    def __init__(self, keys):
        bundle = parse((keys / "trust.json").read_bytes())
        self.trust = trust = parse(decode(bundle["payload"]))
        roots = {thumbprint(jwk["x"]): jwk["x"] for jwk in trust["roots"]}
        payload, signatures = bundle["payload"], bundle["signatures"]
        signers = [check(s["protected"], payload, s["signature"], "trust", roots) for s in signatures]
        demand((keys / "root.thumbprint").read_text().strip() in signers, "the pinned root has not signed")
        demand(len(set(signers)) == len(signers) >= trust["threshold"] >= 1, "the threshold")
        self.name, self.revoked = trust["realm"], {r.get("jti") or r["kid"] for r in trust["revoked"]}
        self.issuers = {thumbprint(i["jwk"]["x"]): (i["name"], i["jwk"]["x"]) for i in trust["issuers"]}

    def open(self, message, kind, role):
        """A message's members and its sender's claims (sections 2 and 6)."""
        proof, parts = ((message.headers or {}).get(name, "").split(".") for name in (SIGNATURE, CREDENTIAL))
        demand(len(proof) == len(parts) == 3 and proof[1] == "", "not a detached JWS and a JWT")
        issuer = check(*parts, "credential", {kid: x for kid, (_, x) in self.issuers.items()})
        claims = parse(decode(parts[1]))
        demand(claims["iss"] == self.issuers[issuer][0] and claims["realm"] == self.name, "issuer or realm")
        demand(claims["role"] == role, "role")
        demand(claims["nbf"] * 1000 - SKEW <= now() < claims["exp"] * 1000 + SKEW, "a credential out of its time")
        x = claims["cnf"]["jwk"]["x"]
        demand(self.revoked.isdisjoint({claims["jti"], thumbprint(x), issuer}), "revoked")
        check(proof[0], encode(message.data), proof[2], kind, {thumbprint(x): x})
        body = parse(message.data)
        expected = {"realm": self.name, "from": claims["sub"], "credential": claims["jti"], "subject": message.subject}
        demand({name: body.get(name) for name in expected} == expected and body["v"] == 1, "the envelope")
        return body, claims

class Party:
    """Somebody with a key, a credential and a connection."""

    def __init__(self, keys, role, name):
        self.realm, self.name = Realm(keys), name
        self.key = ECC.import_key((keys / role / f"{name}.pem").read_text())
        self.credential = (keys / role / f"{name}.jwt").read_text().strip()
        self.claims = parse(decode(self.credential.split(".")[1]))

    def envelope(self, **members):
        who = {"realm": self.realm.name, "from": self.name, "credential": self.claims["jti"]}
        return {"v": 1, "id": uuid7(), **who, **members}

    def sealed(self, kind, message):
        body = json.dumps(message, ensure_ascii=False).encode()
        headers = {SIGNATURE: "..".join(sign(self.key, kind, body)), CREDENTIAL: self.credential}
        return message["subject"], body, headers

def uuid7():
    bits = now() << 80 | secrets.randbits(80)
    return str(uuid.UUID(int=bits & ~(0xF << 76 | 3 << 62) | 7 << 76 | 2 << 62))

async def connect(url, file):
    """Logs in with NATS credentials: a JWT, and a seed, the base32 of two bytes for its type, the seed, and a checksum of two."""
    lines = file.read_text().split()
    jwt, text = (next(line for line in lines if line.startswith(prefix)) for prefix in ("eyJ", "SU"))
    key = ECC.construct(curve="Ed25519", seed=base64.b32decode(text + "=" * (-len(text) % 8))[2:34])
    connection = nats.aio.client.Client()
    # What nats-py does with a file of credentials, which it would want another package for.
    connection._auth_configured = True
    sign_nonce = lambda nonce: base64.b64encode(eddsa.new(key, "rfc8032").sign(nonce.encode()))
    await connection.connect(url, user_jwt_cb=jwt.encode, signature_cb=sign_nonce, allow_reconnect=False)
    return connection

async def operator(keys, url, name, client, command, args="{}"):
    me = Party(keys, "operators", name)
    connection, session = await connect(url, keys / "nats" / f"operator-{name}.creds"), secrets.token_hex(10)

    async def request(members):
        message = me.envelope(to={"client": client}, subject=f"cs.{me.realm.name}.cmd.client.{client}")
        message["reply_to"] = f"cs.{me.realm.name}.reply.{name}.{session}.{message['id']}"
        message.update(members, issued_at=now(), expires_at=now() + 30_000)
        subject, body, headers = me.sealed("command", message)
        replies = await connection.subscribe(message["reply_to"] + ".*")
        await connection.publish(subject, body, message["reply_to"], headers)
        while True:
            answer = await replies.next_msg(20)
            reply, _ = me.realm.open(answer, "reply", "client")
            demand(reply["from"] == client and answer.subject.endswith("." + client), "from somebody else")
            demand(reply["to"] == name and reply["command_digest"] == digest(body), "not about this command")
            if reply["status"] not in ("accepted", "progress"):
                return reply

    # A query needs no epoch; what comes after it must not be taken for a replay (section 8).
    epoch = (await request({"command": {"name": "status", "args": {}}}))["epoch"]
    emit(await request({"epoch": epoch, "command": {"name": command, "args": json.loads(args)}}))

async def observer(keys, url):
    connection = await connect(url, keys / "nats" / "observer.creds")
    passing = await connection.subscribe("cs.>")
    await connection.flush()
    emit("watching")
    async for message in passing.messages:
        emit({"subject": message.subject, "message": json.loads(message.data)})

class Worker(Party):
    def __init__(self, keys, name):
        super().__init__(keys, "clients", name)
        self.state, self.n, self.started, self.records = "unready", 0, now(), {}
        self.epoch, self.boot = str(uuid.uuid4()), str(uuid.uuid4())

    def signed(self, type_, **members):
        about = {"issued_at": now(), "epoch": self.epoch, "boot": self.boot, "n": self.n, "state": self.state}
        self.n += 1
        return self.sealed(type_, {**self.envelope(), **about, **members})

    def presence(self):
        subject = f"cs.{self.realm.name}.event.{self.name}.presence"
        return self.signed("event", subject=subject, kind="presence", data=self.info())

    def info(self):
        about = {"state": self.state, "epoch": self.epoch, "boot": self.boot, "n": self.n, "started_at": self.started}
        about.update(version="a peer in Python", heartbeat_ms=HEARTBEAT, groups=self.claims["groups"], dropped={})
        trust = {name: self.realm.trust[name] for name in ("version", "expires_at")}
        return {**about, "jobs": {"running": 0, "limit": 0}, "commands": [], "trust": trust}

    def verdict(self, command, grant):
        """The status of the one reply, and what it carries; the order is that of section 9."""
        name, args = command["command"]["name"], command["command"]["args"]
        refused = lambda code, **more: ("refused", "error", {"code": code, "message": code.replace("_", " "), **more})
        if not {"*", name} & set(grant["commands"]):
            return refused("forbidden")
        if not 0 < command["expires_at"] - command["issued_at"] <= min(LONGEST_LIFE, grant["max_ttl_ms"]):
            return refused("lifetime")
        epoch = command.get("epoch")
        if epoch != self.epoch and (epoch or name != "status" and command["issued_at"] <= self.started + SKEW):
            return refused("wrong_epoch" if epoch else "starting", details={"epoch": self.epoch})
        if now() >= command["expires_at"] + SKEW or command["issued_at"] > now() + SKEW:
            return refused("expired" if now() > command["expires_at"] else "not_yet_valid", details={"now": now()})
        if name not in ("start", "terminate", "ping", "status"):
            return refused("unknown_command")
        if args:
            return refused("invalid_args", details={"errors": [{"path": "", "message": "there are no arguments"}]})
        if name == "ping" and self.state != "ready":
            return refused("not_ready")
        if name in ("ping", "status"):
            return "succeeded", "result", now() // 1000 if name == "ping" else self.info()
        before, self.state = self.state, "ready" if name == "start" else "terminated"
        return "succeeded", "result", {"changed": before != "ready"} if name == "start" else {"cancelled": 0}

    def answer(self, message):
        """The messages that follow from a command, in the order in which they are published."""
        command, claims = self.realm.open(message, "command", "operator")
        demand(now() < self.claims["exp"] * 1000, "what cannot be answered provably is not carried out (section 6)")
        place = rf"cs\.{self.realm.name}\.reply\.{command['from']}\.[a-z0-9]{{16,32}}\.{command['id']}"
        demand(command["to"] == {"client": self.name} and re.fullmatch(place, command["reply_to"]), "to or reply_to")
        record = (claims["cnf"]["jwk"]["x"], command["id"])
        if record in self.records:
            return self.records[record]
        grant, before = claims["grant"], self.state
        demand(grant["all"] or self.name in grant["clients"], "out of reach")
        status, carries, value = self.verdict(command, grant)
        about = {"subject": f"{command['reply_to']}.{self.name}", "to": command["from"], "command_id": command["id"]}
        about.update({"command_digest": digest(message.data), "seq": 0, "status": status, carries: value})
        self.records[record] = [reply := self.signed("reply", **about)]
        return [reply] if self.state == before else [reply, self.presence()]

async def worker(keys, url, name):
    me, connection = Worker(keys, name), await connect(url, keys / "nats" / f"client-{name}.creds")
    commands = await connection.subscribe(f"cs.{me.realm.name}.cmd.client.{name}")
    await connection.flush()
    outgoing = [me.presence()]
    while True:
        for subject, body, headers in outgoing:
            await connection.publish(subject, body, headers=headers)
        await connection.flush()
        emit({"state": me.state})
        if me.state == "terminated":
            return
        try:
            outgoing = me.answer(await commands.next_msg(HEARTBEAT / 1000))
        except nats.errors.TimeoutError:
            outgoing = [me.presence()]
        except (ValueError, KeyError, TypeError) as error:
            outgoing = emit({"dropped": repr(error)}) or []

role, folder, *rest = sys.argv[1:]
asyncio.run({"operator": operator, "worker": worker, "observer": observer}[role](Path(folder), *rest))
