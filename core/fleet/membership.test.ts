import { randomBytes } from "node:crypto";
import { parseCertificate } from "../pki/certificate.ts";
import { GatewayWorld, inTouch, SETTINGS } from "./testing/gateway-world.ts";
import { DAY_MS, LIFE_MS } from "./testing/memory-primary.ts";

const NAME = "azure-gateway-gwc-01";

let world: GatewayWorld;
beforeEach(async () => {
  world = await GatewayWorld.start();
  world.token = world.primary.makeToken(NAME);
});

const idOf = (): string => world.primary.gateways.get(NAME)?.id ?? "";
const registered = async (): Promise<void> => {
  await world.liveUntil(inTouch);
};
const restarted = (): void => {
  world.lines.length = 0;
  world.warnings.length = 0;
};

test("the first start registers, confirms and beats, and says so line by line", async () => {
  await registered();
  expect(world.lines).toEqual([
    "Registering gateway with primary...",
    "Setting up mTLS...",
    `Gateway registered successfully: ${idOf()}`,
    "Heartbeat loop started (60s interval)",
  ]);
  expect(world.warnings).toEqual([]);
  expect(world.primary.requests.map((path) => path.split("/").at(-1))).toEqual([
    "registration",
    "confirmation",
    "heartbeat",
  ]);
  expect(await world.record).toMatchObject({
    state: "Confirmed",
    identity: { gatewayId: idOf(), name: NAME, environment: "NPR", role: "primary" },
    next: undefined,
  });
});

test("a later start says what is true of it, and needs no token", async () => {
  await registered();
  restarted();
  world.token = undefined;
  await registered();
  expect(world.lines).toEqual(["Setting up mTLS...", "Heartbeat loop started (60s interval)"]);
});

test("the token is kept until nobody can need it again, and no longer", async () => {
  world.primary.admittedAfterMs = 5_000;
  await world.live(({ state }) => state === "Registered");
  expect(world.forgotten).toBeUndefined();
  await registered();
  expect(world.forgotten).toBe(world.token);
});

test("nothing of the token or a private key is stored, and each change of state is on record", async () => {
  const secret = (world.token ?? "").split(".")[1] ?? "";
  await registered();
  const stored = JSON.stringify(await world.record, (_name, value: unknown) =>
    typeof value === "object" && value !== null && "data" in value
      ? Buffer.from(value.data as number[]).toString("latin1")
      : value,
  );
  expect(stored).not.toContain(secret);
  expect(stored).not.toContain(Buffer.from(secret, "base64url").toString("latin1"));
  const states = world.database.audit
    .filter(({ entry }) => entry.action === "MembershipChanged")
    .map(({ entry }) => entry.details.state);
  expect(states).toEqual(["Registering", "Registered", "Confirmed"]);
});

describe("what stands in the way is told once, with what to do", () => {
  test.each<[string, () => void, string, RegExp]>([
    [
      "no token",
      () => {
        world.token = undefined;
      },
      "BootstrapTokenMissing",
      /mazevault gateways bootstrap NAME/,
    ],
    [
      "one that is not known",
      () => {
        world.token = `mvg1.${randomBytes(32).toString("base64url")}.${world.primary.rootDigest.toString("base64url")}`;
      },
      "BootstrapTokenRefused",
      /does not take the bootstrap token.*make a new token with `mazevault gateways bootstrap NAME`/,
    ],
    [
      "one of another primary",
      () => {
        world.token = `mvg1.${randomBytes(32).toString("base64url")}.${randomBytes(32).toString("base64url")}`;
      },
      "PrimaryUntrusted",
      /not the primary of the bootstrap token; check gateway.primaryUrl/,
    ],
    [
      "a primary that is not there",
      () => {
        world.primary.down = true;
      },
      "PrimaryUnreachable",
      /ECONNREFUSED; check gateway.primaryUrl \(PRIMARY_BACKEND_URL\)/,
    ],
    [
      "another environment",
      () => {
        world.token = world.primary.makeToken("other", { environment: "PRO", role: "primary" });
      },
      "GatewayPlaceDiffers",
      /MAZEVAULT_GATEWAY_ENVIRONMENT/,
    ],
  ])("%s", async (_what, arrange, code, says) => {
    arrange();
    let looks = 0;
    await world.live(({ fault }) => fault?.code === code && ++looks === 20);
    expect(world.warnings).toEqual([expect.stringMatching(says)]);
    expect(world.warnings[0]).toMatch(/^registration failed: /);
    // In 100 seconds.
    expect(world.primary.requests.length).toBeLessThanOrEqual(4);
  });

  test("of the primary's URL the host is told and no more", async () => {
    world.settings = { ...SETTINGS, primaryUrl: "https://primary.example.com:8443/hidden" };
    world.primary.down = true;
    let problem = "";
    await world.live(({ fault }) => {
      problem = fault?.problem ?? "";
      return fault !== undefined;
    });
    expect(problem).toMatch(/ at primary\.example\.com:8443: /);
  });

  test("a primary of another root is sent nothing", async () => {
    world.token = `mvg1.${randomBytes(32).toString("base64url")}.${randomBytes(32).toString("base64url")}`;
    await world.live(({ fault }) => fault?.code === "PrimaryUntrusted");
    expect(world.primary.requests).toEqual([]);
  });

  test("it goes on by itself when the primary is there again, or another token is", async () => {
    world.primary.down = true;
    await world.live(({ fault }) => {
      if (fault?.code === "PrimaryUnreachable") world.primary.down = false;
      return fault !== undefined;
    });
    const { token } = world;
    world.token = `mvg1.${randomBytes(32).toString("base64url")}.${world.primary.rootDigest.toString("base64url")}`;
    await world.live((status) => {
      if (status.fault?.code === "BootstrapTokenRefused") world.token = token;
      return inTouch(status);
    });
    expect(world.warnings).toHaveLength(2);
  });
});

test("a primary that asks to come later is left alone for so long", async () => {
  world.primary.busyMs = 7_000;
  let looks = 0;
  await world.live(() => ++looks === 5);
  // Storing its key is followed by the first attempt at once.
  const pauses = world.pauses.filter((ms) => ms > 0);
  expect(pauses.length).toBeGreaterThanOrEqual(3);
  for (const pause of pauses) expect(pause).toBeGreaterThanOrEqual(7_000);
  world.primary.busyMs = undefined;
  await world.live(inTouch);
});

describe("heartbeats", () => {
  test("come each 60 seconds, and failures are counted by heartbeats that were due, not by attempts", async () => {
    await registered();
    const gateway = world.primary.gateways.get(NAME);
    const before = gateway?.heartbeats ?? 0;
    let looks = 0;
    await world.live(() => ++looks === 5);
    expect((gateway?.heartbeats ?? 0) - before).toBe(5);
    restarted();
    let began: number | undefined;
    let passed = 0;
    await world.live(({ heartbeats }) => {
      world.primary.down = true;
      world.primary.endSessions();
      began ??= world.effects;
      passed = world.effects - began;
      return heartbeats.consecutiveFailures === 4;
    });
    expect(passed).toBeGreaterThan(12);
    expect(world.warnings).toEqual([expect.stringMatching(/^heartbeat failed: no answer from the primary/)]);
  });

  test("that had no answer, and that it acts, are not told of who leads no more", async () => {
    await registered();
    await world.live((status) => {
      world.primary.down ||= status.active;
      if (world.primary.down) world.primary.endSessions();
      return status.active && status.heartbeats.consecutiveFailures > 0;
    });
    expect(world.afterwards).toMatchObject({
      channel: "Standby",
      active: false,
      heartbeats: { consecutiveFailures: 0 },
    });
    expect(world.afterwards?.heartbeats.failures).toBeGreaterThan(0);
  });

  test("tell the newest epoch that was heard, also when the primary has forgotten it", async () => {
    await registered();
    const gateway = world.primary.gateways.get(NAME);
    world.primary.environmentEpoch = "7";
    let forgottenAt: number | undefined;
    await world.live(() => {
      if (gateway?.environmentEpoch !== "7") return false;
      world.primary.environmentEpoch = "3";
      forgottenAt ??= gateway.heartbeats;
      return gateway.heartbeats === forgottenAt + 3;
    });
    expect(gateway?.environmentEpoch).toBe("7");
  });

  test("go on at once on another channel when theirs ends", async () => {
    await registered();
    let ended = 0;
    let mostSeconds = 0;
    let last = new Date(0);
    await world.live(({ heartbeats: { lastAnsweredAt }, channel }) => {
      if (lastAnsweredAt === undefined || lastAnsweredAt.getTime() === last.getTime()) return false;
      if (last.getTime() > 0) mostSeconds = Math.max(mostSeconds, (lastAnsweredAt.getTime() - last.getTime()) / 1_000);
      last = lastAnsweredAt;
      expect(channel).toBe("Open");
      world.primary.endSessions();
      ended += 1;
      return ended === 4;
    });
    expect(mostSeconds).toBeLessThanOrEqual(60 + 30);
    expect(world.warnings).toEqual([]);
  });
});

describe("revocation", () => {
  test.each([
    ["an answer", {}],
    ["the end of the channel", { endsChannels: true }],
    ["a session that is refused", { refusesSessions: true }],
  ])("by %s ends it at once on its open channel, and a later start knows", async (_what, way) => {
    Object.assign(world.primary, way);
    await registered();
    await world.live((status) => {
      if (inTouch(status) && status.state !== "Revoked") world.primary.revoke(NAME);
      return status.fault?.code === "GatewayRevoked";
    });
    expect(await world.record).toMatchObject({ state: "Revoked" });
    expect(world.warnings.at(-1)).toMatch(/has revoked this gateway; if it is to come back, make a new token/);
    restarted();
    const { requests } = world.primary;
    requests.length = 0;
    await world.live(({ fault }) => fault?.code === "GatewayRevoked");
    expect(requests).toEqual([]);
  });

  test.each([
    ["an answer", false, "CertificateUnknown", "CertificateUnknown"],
    ["the end of the channel", true, "CertificateUnknown", "CertificateUnknown"],
    ["an answer", false, "CertificateExpired", "GatewayCertificateEnded"],
    ["the end of the channel", true, "CertificateExpired", "GatewayCertificateEnded"],
  ] as const)(
    "by %s (%s) %s is no revocation: it goes on trying, and takes a new token",
    async (_, ends, code, fault) => {
      world.primary.endsChannels = ends;
      await registered();
      const doubt = (by: typeof code | undefined) => {
        for (const each of world.primary.certificates) each.doubted = by;
      };
      doubt(code);
      await world.live((status) => status.fault?.code === fault);
      expect(await world.record).toMatchObject({ state: "Confirmed" });
      doubt(undefined);
      await world.live(inTouch);
      doubt(code);
      await world.live((status) => status.fault?.code === fault);
      const { length } = world.primary.certificates;
      world.token = world.primary.makeToken(NAME);
      await world.live(inTouch);
      expect(world.primary.certificates.length).toBe(length + 1);
    },
  );

  test("with a token that was not used yet it comes back as the same gateway, with the one of before it does not", async () => {
    await registered();
    const id = idOf();
    world.primary.revoke(NAME);
    await world.live(({ fault }) => fault?.code === "GatewayRevoked");
    restarted();
    world.token = world.primary.makeToken(NAME);
    await registered();
    expect(world.lines).toEqual([
      "Registering gateway with primary...",
      "Setting up mTLS...",
      `Gateway registered successfully: ${id}`,
      "Heartbeat loop started (60s interval)",
    ]);
    expect(idOf()).toBe(id);
  });

  test("a certificate that replicas of the primary do not know of yet is not taken for a revoked one", async () => {
    world.primary.admittedAfterMs = 8_000;
    await registered();
    expect(await world.record).toMatchObject({ state: "Confirmed" });
    world.primary.revoke(NAME);
    await world.live(({ fault }) => fault?.code === "GatewayRevoked");
  });

  test.each([
    ["an answer", {}],
    ["a session that is refused", { refusesSessions: true }],
  ])("of the next certificate alone, by %s, leaves the current one, which gets another", async (_what, way) => {
    await registered();
    Object.assign(world.primary, way);
    const before = await world.record;
    world.pass((LIFE_MS * 2) / 3 + DAY_MS);
    world.primary.admittedAfterMs = LIFE_MS;
    await world.live(async () => {
      const { next } = (await world.record) ?? {};
      return next !== undefined && next.certificates.length > 0;
    });
    const refused = (await world.record)?.next?.digest ?? Buffer.alloc(0);
    world.primary.revokeCertificate(refused);
    world.primary.admittedAfterMs = 0;
    await world.live(async (status) => {
      const record = await world.record;
      return (
        inTouch(status) &&
        record?.next === undefined &&
        !record?.current.digest.equals(before?.current.digest ?? refused)
      );
    });
    const after = await world.record;
    expect(after?.state).toBe("Confirmed");
    expect(after?.current.digest).not.toEqual(refused);
    expect(new Set(world.warnings)).toEqual(new Set(["the gateway's certificate was not renewed yet"]));
  });

  test("one that was revoked before it confirmed is told so", async () => {
    world.primary.admittedAfterMs = LIFE_MS;
    await world.live(({ state }) => state === "Registered");
    world.primary.revoke(NAME);
    await world.live(({ fault }) => fault?.code === "GatewayRevoked");
    expect(await world.record).toMatchObject({ state: "Revoked" });
  });
});

describe("renewal", () => {
  test("at two thirds of its life by a new key; the former certificate ends", async () => {
    await registered();
    const before = await world.record;
    world.pass((LIFE_MS * 2) / 3 - DAY_MS);
    await registered();
    expect(await world.record).toEqual(before);
    world.pass(DAY_MS);
    await world.live(
      async (status) =>
        inTouch(status) && !(await world.record)?.current.digest.equals(before?.current.digest ?? Buffer.alloc(32)),
    );
    const after = await world.record;
    expect(after).toMatchObject({ state: "Confirmed", next: undefined });
    const live = world.primary.live(idOf());
    expect(live.map(({ digest }) => digest)).toEqual([after?.current.digest]);
    expect(world.lines).toContain("The gateway's certificate was renewed");
  });

  test.each([
    ["ahead by a year", 365 * DAY_MS, 70],
    ["ahead by a month", 30 * DAY_MS, 3],
    ["behind by a year", -365 * DAY_MS, 2],
  ])("with a clock that is %s all the time it stays in touch, and asks for few certificates", async (...story) => {
    const [, aheadMs, most] = story;
    world.aheadMs = aheadMs;
    await registered();
    let days = 0;
    await world.live(() => {
      world.pass(DAY_MS);
      days += 1;
      return days === 70;
    });
    expect(world.primary.certificates.length).toBeGreaterThan(1);
    expect(world.primary.certificates.length).toBeLessThanOrEqual(most);
    expect(world.warnings).toEqual([]);
  });

  test("a clock that was put right does not make it miss the end", async () => {
    world.aheadMs = 400 * DAY_MS;
    await registered();
    world.aheadMs = 0;
    let days = 0;
    await world.live(() => {
      world.pass(DAY_MS);
      days += 1;
      return days === 200;
    });
    const newest = world.primary.certificates.at(-1)?.der ?? Buffer.alloc(0);
    expect(parseCertificate(newest).notAfter.getTime()).toBeGreaterThan(
      parseCertificate(world.primary.root).notBefore.getTime() + 200 * DAY_MS,
    );
    expect(world.primary.certificates.length).toBeLessThan(7);
  });

  test("a certificate that ended while nobody ran is told, and a new token makes another", async () => {
    await registered();
    world.pass(LIFE_MS + DAY_MS);
    await world.live(({ fault }) => fault?.code === "GatewayCertificateEnded");
    world.token = world.primary.makeToken(NAME);
    await registered();
    expect(await world.record).toMatchObject({ state: "Confirmed" });
  });
});

test("settings that name another place than it is registered for stop it, and say what to do", async () => {
  await registered();
  world.settings = { ...SETTINGS, environment: "PRO" };
  const { requests } = world.primary;
  requests.length = 0;
  await world.live(({ fault }) => fault?.code === "GatewayPlaceDiffers");
  expect(requests).toEqual([]);
  expect(world.warnings.at(-1)).toMatch(/registered for NPR, primary, and its settings say PRO, primary/);
});

describe("what a gateway has is kept until the primary of another token was there", () => {
  const ofOther = (): string =>
    `mvg1.${randomBytes(32).toString("base64url")}.${randomBytes(32).toString("base64url")}`;

  test("a token of another root changes nothing, is told once, and heartbeats go on", async () => {
    await registered();
    const before = await world.record;
    restarted();
    world.token = ofOther();
    let answered = 0;
    let last: Date | undefined;
    await world.live(({ fault, heartbeats: { lastAnsweredAt } }) => {
      if (lastAnsweredAt?.getTime() !== last?.getTime()) answered += 1;
      last = lastAnsweredAt;
      return answered === 3 && fault?.code === "PrimaryUntrusted";
    });
    expect(await world.record).toEqual(before);
    expect(world.warnings).toEqual([
      expect.stringMatching(/^the new bootstrap token was not taken up: what answers at .* is not the primary of/),
    ]);
  });

  test("so does one whose primary is not there, where the place differs too", async () => {
    await registered();
    const before = await world.record;
    world.settings = { ...SETTINGS, environment: "PRO" };
    world.token = world.primary.makeToken("other");
    world.primary.down = true;
    await world.live(({ fault }) => fault?.code === "PrimaryUnreachable");
    expect(await world.record).toEqual(before);
    world.primary.down = false;
    await registered();
    expect(await world.record).toMatchObject({ state: "Confirmed", identity: { name: "other", environment: "PRO" } });
  });

  test("one that has registered, and not confirmed yet, keeps its key too", async () => {
    world.primary.admittedAfterMs = LIFE_MS;
    await world.live(({ state }) => state === "Registered");
    const before = await world.record;
    world.token = ofOther();
    await world.live(({ fault }) => fault?.code === "PrimaryUntrusted");
    expect(await world.record).toEqual(before);
  });

  test("a primary that was installed anew gets the gateway by a token of its own", async () => {
    await registered();
    const other = await GatewayWorld.start();
    world.primary = other.primary;
    await world.live(({ fault }) => fault?.code === "PrimaryUntrusted");
    world.token = other.primary.makeToken(NAME);
    await registered();
    expect(await world.record).toMatchObject({ state: "Confirmed", rootDigest: other.primary.rootDigest });
  });
});

describe("what does not let it in any more does not keep it from a new token", () => {
  test("a certificate that the primary refuses", async () => {
    await registered();
    const digest = (await world.record)?.current.digest;
    world.primary.refusedKeys.add(digest?.toString("hex") ?? "");
    await world.live(({ fault }) => fault?.code === "GatewayCertificateRefused");
    expect(world.warnings.at(-1)).toMatch(/ended the session when it saw this gateway's certificate; .*make a new tok/);
    world.token = world.primary.makeToken(NAME);
    await registered();
    expect((await world.record)?.current.digest).not.toEqual(digest);
  });

  test("a key that cannot be opened", async () => {
    await registered();
    const stored = await world.store.read();
    if (stored === undefined) throw new Error("expected a record");
    const { record, generation } = stored;
    const other = await GatewayWorld.start();
    other.token = other.primary.makeToken(NAME);
    await other.liveUntil(inTouch);
    const { sealed } = (await other.record)?.current ?? record.current;
    const writer = { epoch: await world.database.acquireEpoch("vandal") };
    await world.store.write(writer, generation, { ...record, current: { ...record.current, sealed } }, []);
    await world.live(({ fault }) => fault?.code === "TamperDetected");
    world.token = world.primary.makeToken(NAME);
    await registered();
    expect((await world.record)?.current.digest).not.toEqual(record.current.digest);
  });
});

test("the root of the primary cannot be exchanged in the database", async () => {
  await registered();
  const stored = await world.store.read();
  if (stored === undefined) throw new Error("expected a record");
  const other = await GatewayWorld.start();
  const { record, generation } = stored;
  const current = {
    ...record.current,
    certificates: [record.current.certificates[0] ?? Buffer.alloc(0), other.primary.root],
  };
  const writer = { epoch: await world.database.acquireEpoch("vandal") };
  await world.store.write(writer, generation, { ...record, rootDigest: other.primary.rootDigest, current }, []);
  await world.live(({ fault }) => fault?.code === "TamperDetected");
});
