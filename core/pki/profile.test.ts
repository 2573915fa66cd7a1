import fc from "fast-check";
import { parseCertificate, signCertificate } from "./certificate.ts";
import { type NameConstraints, nameConstraints, subjectAltNames } from "./general-name.ts";
import { generateKey, type KeySpec, keyIdentifier } from "./key.ts";
import { encodeName, fromSubject, parseLiteralSubject } from "./name.ts";
import { oids } from "./oid.ts";
import { pem } from "./pem.ts";
import {
  certificateExtensions,
  checkAgainstPolicy,
  checkPolicy,
  type IssuePolicy,
  type IssueRequest,
  type Profile,
  profiles,
  profileUsages,
  requestedUsages,
  subordinateConstraints,
  usageNames,
} from "./profile.ts";
import { newSerialNumber } from "./serial.ts";
import { LocalSigner } from "./signer.ts";
import { Judge } from "./testing/judge.ts";

const judge = new Judge();
afterAll(() => judge.dispose());

const rsa: KeySpec = { algorithm: "RSA", size: 2048 };
const ecdsa: KeySpec = { algorithm: "ECDSA", size: 256 };
const ed25519: KeySpec = { algorithm: "Ed25519" };
const hour = 3600_000;
const namespace = "payments";

describe("usages", () => {
  test.each<[Profile, KeySpec, readonly string[], readonly string[]]>([
    ["Server", rsa, ["digitalSignature", "keyEncipherment"], [oids.serverAuth]],
    ["Server", ecdsa, ["digitalSignature"], [oids.serverAuth]],
    ["Client", rsa, ["digitalSignature"], [oids.clientAuth]],
    ["Agent", ed25519, ["digitalSignature"], [oids.clientAuth]],
    ["Gateway", ecdsa, ["digitalSignature"], [oids.clientAuth, oids.serverAuth]],
    ["OCSPResponder", ecdsa, ["digitalSignature"], [oids.ocspSigning]],
    ["CA", ed25519, ["keyCertSign", "cRLSign"], []],
  ])("of %s for $algorithm", (profile, key, keyUsage, extendedKeyUsage) => {
    expect(profileUsages(profile, key)).toEqual({ keyUsage, extendedKeyUsage });
    expect(requestedUsages(undefined, profile, key)).toEqual({ keyUsage, extendedKeyUsage });
  });

  test.each<[string, string[], Profile, KeySpec, readonly string[], readonly string[]]>([
    [
      "cert-manager's default",
      ["digital signature", "key encipherment"],
      "Server",
      ecdsa,
      ["digitalSignature"],
      [oids.serverAuth],
    ],
    [
      "both purposes",
      ["server auth", "client auth"],
      "Server",
      rsa,
      ["digitalSignature", "keyEncipherment"],
      [oids.serverAuth, oids.clientAuth],
    ],
    [
      "synonyms",
      ["signing", "digital signature", "s/mime", "email protection"],
      "Client",
      rsa,
      ["digitalSignature"],
      [oids.emailProtection],
    ],
    [
      "a CA with a purpose",
      ["server auth", "digital signature"],
      "CA",
      ecdsa,
      ["keyCertSign", "cRLSign", "digitalSignature"],
      [oids.serverAuth],
    ],
  ])("%s", (_, usages, profile, key, keyUsage, extendedKeyUsage) => {
    expect(requestedUsages(usages, profile, key)).toEqual({ keyUsage, extendedKeyUsage });
  });

  test("every name of cert-manager is known", () => {
    for (const name of usageNames) {
      const { keyUsage, extendedKeyUsage } = requestedUsages(
        ["digital signature", "key agreement", name],
        "Client",
        ecdsa,
      );
      expect(keyUsage.length + extendedKeyUsage.length).toBeGreaterThan(2);
    }
    expect(usageNames).toHaveLength(23);
  });

  test.each<[string[], KeySpec, RegExp]>([
    [["digital signature", "web"], rsa, /^usages\[1\]: "web" is no usage; usages are signing, /],
    [["key encipherment"], ecdsa, /^usages: leave a key of ECDSA nothing to do; add "digital signature"$/],
    [["key agreement"], ed25519, /^usages: /],
  ])("%p is refused", (usages, key, message) => {
    expect(() => requestedUsages(usages, "Server", key)).toThrow(message);
  });
});

const policy: IssuePolicy = {
  profiles: ["Server", "Client"],
  maxDurationMs: 2160 * hour,
  dnsNames: ["*.{namespace}.svc", "shop.bücher.example", "*.apps.example.com"],
  ipRanges: ["10.0.0.0/8", "2001:db8::/32"],
  uris: ["spiffe://example.com/ns/{namespace}/sa/*", "https://*.example.com/"],
  emailDomains: ["example.com"],
  otherNames: ["1.3.6.1.4.1.311.20.2.3"],
  commonNames: ["{namespace}-*", "Payments * Service"],
  subject: { organizations: ["Example"], organizationalUnits: ["{namespace}"] },
};

const request = (change: Partial<IssueRequest> = {}): IssueRequest => ({
  subject: [],
  subjectAltNames: subjectAltNames({ dnsNames: ["orders.payments.svc"] }),
  durationMs: hour,
  profile: "Server",
  usages: profileUsages(change.profile ?? "Server", ecdsa),
  ...change,
});
const names = (of: Parameters<typeof subjectAltNames>[0]) => request({ subjectAltNames: subjectAltNames(of) });
const subject = (literal: string) => request({ subject: parseLiteralSubject(literal) });

describe("what the policy allows", () => {
  test.each<[string, IssueRequest]>([
    ["a name below the namespace", request()],
    ["the wildcard of an allowed label", names({ dnsNames: ["*.payments.svc"] })],
    ["an internationalised name", names({ dnsNames: ["shop.BÜCHER.example"] })],
    ["an address", names({ ipAddresses: ["10.255.0.1", "2001:db8:ffff::1"] })],
    ["URIs", names({ uris: ["spiffe://example.com/ns/payments/sa/orders-2.1", "https://a.example.com/"] })],
    ["mail addresses", names({ emailAddresses: ["a@example.com", "grün@example.com"] })],
    ["an other name", names({ otherNames: [{ oid: "1.3.6.1.4.1.311.20.2.3", utf8Value: "x" }] })],
    ["a common name that is a name too", subject("CN=orders.payments.svc")],
    ["the same in capitals", subject("CN=Orders.Payments.svc")],
    ["a common name by pattern", subject("CN=payments-orders")],
    ["a common name with a star inside", subject("CN=Payments Order Service")],
    ["listed attributes", subject("OU=payments,O=Example")],
    ["a mail address in the subject", subject("EMAILADDRESS=a@EXAMPLE.com")],
    ["the longest duration", request({ durationMs: 2160 * hour })],
    ["a client", request({ profile: "Client" })],
    [
      "both purposes where both profiles are",
      request({ usages: requestedUsages(["server auth", "client auth"], "Server", rsa) }),
    ],
  ])("%s", (_, asked) => {
    expect(checkAgainstPolicy(asked, policy, { namespace })).toEqual([]);
  });
});

describe("what the policy denies", () => {
  test.each<[string, IssueRequest, string, RegExp]>([
    [
      "two labels for one star",
      names({ dnsNames: ["a.orders.payments.svc"] }),
      "dnsNames",
      /"a.orders.payments.svc" is not allowed: the issuer's policy.dnsNames allows only \*.payments.svc, /,
    ],
    ["no label for the star", names({ dnsNames: ["payments.svc"] }), "dnsNames", /payments.svc/],
    ["another namespace", names({ dnsNames: ["orders.billing.svc"] }), "dnsNames", /orders.billing.svc/],
    ["a name that only ends alike", names({ dnsNames: ["orders.evilpayments.svc"] }), "dnsNames", /evil/],
    [
      "an address outside",
      names({ ipAddresses: ["11.0.0.1"] }),
      "ipAddresses",
      /policy.ipRanges allows only 10.0.0.0\/8/,
    ],
    ["an IPv4 address in IPv6", names({ ipAddresses: ["::ffff:10.0.0.1"] }), "ipAddresses", /ffff/],
    ["a path below", names({ uris: ["spiffe://example.com/ns/payments/sa/a/b"] }), "uris", /uris/],
    ["dot segments", names({ uris: ["spiffe://example.com/ns/payments/sa/.."] }), "uris", /uris/],
    ["an encoded slash", names({ uris: ["spiffe://example.com/ns/payments/sa/a%2Fb"] }), "uris", /uris/],
    ["a query", names({ uris: ["spiffe://example.com/ns/payments/sa/a?b"] }), "uris", /uris/],
    ["two host labels for one star", names({ uris: ["https://a.b.example.com/"] }), "uris", /uris/],
    ["a user before the host", names({ uris: ["https://evil@a.example.com/"] }), "uris", /uris/],
    ["mail of a subdomain", names({ emailAddresses: ["a@b.example.com"] }), "emailAddresses", /emailDomains/],
    [
      "internationalised mail of another domain",
      names({ emailAddresses: ["ä@b.example.com"] }),
      "emailAddresses",
      /emailDomains/,
    ],
    ["another other name", names({ otherNames: [{ oid: "1.2.3", utf8Value: "x" }] }), "otherNames", /"1.2.3"/],
    [
      "a directory name",
      request({ subjectAltNames: [{ kind: "directory", rdns: fromSubject({ commonName: "a" }) }] }),
      "subjectAltName",
      /directory names/,
    ],
    [
      "a common name that is no name",
      subject("CN=www.example.com"),
      "commonName",
      /make it one of the alternative names or ask/,
    ],
    ["one that only begins like a pattern", subject("CN=Payments Service"), "commonName", /policy.commonNames/],
    [
      "an organization",
      subject("O=system:masters"),
      "subject.organizations",
      /policy.subject.organizations allows only Example/,
    ],
    [
      "an attribute of an unlisted type",
      subject("L=Wien"),
      "subject.localities",
      /policy.subject.localities lists none/,
    ],
    [
      "an attribute that no policy has",
      subject("UID=root"),
      "literalSubject",
      /UID is not allowed by any policy; leave it out/,
    ],
    ["mail of another domain in the subject", subject("EMAILADDRESS=a@b.com"), "literalSubject", /emailDomains/],
    ["a longer duration", request({ durationMs: 2161 * hour }), "duration", /use at most 2160h/],
    [
      "another profile",
      request({ profile: "OCSPResponder" }),
      "profile",
      /OCSPResponder is not allowed: the issuer's profiles are Server, Client; use another/,
    ],
    [
      "another purpose",
      request({ usages: requestedUsages(["code signing"], "Server", rsa) }),
      "usages",
      /"code signing" is not allowed/,
    ],
    ["any purpose", request({ usages: requestedUsages(["any"], "Server", rsa) }), "usages", /"any" is not allowed/],
    [
      "a purpose nobody knows",
      request({ usages: { keyUsage: ["digitalSignature"], extendedKeyUsage: ["1.2.3"] } }),
      "usages",
      /"1.2.3" is not allowed/,
    ],
    [
      "no purpose",
      request({ usages: { keyUsage: ["digitalSignature"], extendedKeyUsage: [] } }),
      "usages",
      /name no purpose/,
    ],
    [
      "signing certificates without being a CA",
      request({ usages: requestedUsages(["cert sign"], "Server", rsa) }),
      "usages",
      /"cert sign" is not allowed/,
    ],
    ["a CA", { ...subject("CN=Team CA"), profile: "CA", ca: {} }, "isCA", /policy.allowSubordinates/],
    ["no name", request({ subjectAltNames: [] }), "subject", /is empty; add a common name or an alternative name/],
  ])("%s", (_, asked, field, message) => {
    const violations = checkAgainstPolicy(asked, policy, { namespace });
    expect(violations.map((violation) => violation.field)).toEqual([field]);
    expect(violations[0]?.message).toMatch(message);
  });

  test.each<[string, Parameters<typeof subjectAltNames>[0], string | undefined]>([
    ["inside what both permit", { dnsNames: ["orders.payments.svc"] }, undefined],
    ["outside what the CA's own certificate permits", { dnsNames: ["shop.bücher.example"] }, "dnsNames"],
    ["excluded above it", { dnsNames: ["secret.payments.svc"] }, "dnsNames"],
    ["of a kind that neither speaks of", { uris: ["https://www.example.com/"] }, undefined],
  ])("a name %s", (_, asked, field) => {
    const caConstraints = [
      nameConstraints({ permitted: { dnsDomains: ["svc"] } }),
      nameConstraints({ excluded: { dnsDomains: ["secret.payments.svc"] } }),
    ].flatMap((constraints) => constraints ?? []);
    const violations = checkAgainstPolicy(names(asked), { ...policy, caConstraints }, { namespace });
    expect(violations.map((violation) => violation.field)).toEqual(field === undefined ? [] : [field]);
    if (field !== undefined) expect(violations[0]?.message).toMatch(/name constraints in the CA's own certificate/);
  });

  test("everything, where nothing is listed", () => {
    const all = names({
      dnsNames: ["a"],
      ipAddresses: ["10.0.0.1"],
      uris: ["urn:a"],
      emailAddresses: ["a@b"],
      otherNames: [{ oid: "1.2.3", utf8Value: "x" }],
    });
    const violations = checkAgainstPolicy({ ...all, subject: parseLiteralSubject("CN=x,O=y") }, {}, { namespace });
    expect(violations.map(({ field }) => field)).toEqual([
      ...["profile", "subject.organizations", "commonName"],
      ...["dnsNames", "ipAddresses", "uris", "emailAddresses", "otherNames"],
    ]);
    expect(violations[0]?.message).toContain("the issuer has no profiles");
    for (const { message } of violations) expect(message).toMatch(/use another/);
  });

  test("without a maximum, what the profile has", () => {
    const { maxDurationMs: _, ...unlimited } = policy;
    const longest = profiles.Server.maxDurationMs;
    expect(checkAgainstPolicy(request({ durationMs: longest }), unlimited, { namespace })).toEqual([]);
    const [violation] = checkAgainstPolicy(request({ durationMs: longest + 1 }), unlimited, { namespace });
    expect(violation).toEqual({ field: "duration", message: "is longer than the issuer allows; use at most 9552h" });
  });

  test("at most 20 are told of 10,000", () => {
    const dnsNames = Array.from({ length: 10_000 }, (_, n) => `a${n}.example`);
    expect(checkAgainstPolicy(names({ dnsNames }), policy, { namespace })).toHaveLength(20);
  });

  test("a pattern with many stars takes no time", () => {
    const many = { ...policy, commonNames: [`${"*a".repeat(60)}b`], uris: [`urn:${"*".repeat(60)}b`] };
    const asked = {
      ...names({ uris: [`urn:${"a".repeat(2000)}`] }),
      subject: fromSubject({ commonName: "a".repeat(64) }),
    };
    expect(checkAgainstPolicy(asked, many, { namespace }).map(({ field }) => field)).toEqual(["commonName", "uris"]);
  });

  test("no name gets by: what is allowed is inside the namespace", () => {
    const label = fc.constantFrom("payments", "billing", "svc", "orders", "*", "a");
    fc.assert(
      fc.property(fc.array(label, { minLength: 1, maxLength: 5 }), (labels) => {
        const text = labels.join(".");
        const allowed =
          checkAgainstPolicy(request({ subjectAltNames: [{ kind: "dns", value: text }] }), policy, { namespace })
            .length === 0;
        expect(allowed).toBe(labels.length === 3 && labels[1] === "payments" && labels[2] === "svc");
      }),
    );
  });
});

describe("a policy that nothing can match", () => {
  test("is told", () => {
    expect(checkPolicy(policy)).toEqual([]);
    expect(
      checkPolicy({
        dnsNames: ["ok.example", "*.*.example"],
        ipRanges: ["10.0.0.1"],
        uris: ["example.com", "urn:*a*"],
        emailDomains: ["a@b"],
        otherNames: ["x"],
      }).map(({ field }) => field),
    ).toEqual([
      ...["policy.dnsNames[1]", "policy.emailDomains[0]", "policy.ipRanges[0]"],
      ...["policy.uris[0]", "policy.uris[1]", "policy.otherNames[0]"],
    ]);
  });
});

const limits = (of: Parameters<typeof nameConstraints>[0]): NameConstraints =>
  nameConstraints(of) ?? { permitted: [], excluded: [] };

describe("a CA below a CA", () => {
  const within = limits({
    permitted: {
      dnsDomains: ["example.com"],
      ipRanges: ["10.0.0.0/8"],
      emailAddresses: [".example.com"],
      uriDomains: ["a.example.com"],
    },
  });
  const allowing: IssuePolicy = { ...policy, allowSubordinates: { pathLength: 1, nameConstraints: within } };
  const asks = (ca: NonNullable<IssueRequest["ca"]>) =>
    request({
      profile: "CA",
      subjectAltNames: [],
      subject: fromSubject({ commonName: "Team CA", organizations: ["Team"] }),
      durationMs: 87600 * hour,
      ca,
      usages: profileUsages("CA", ecdsa),
    });

  test.each<[string, NonNullable<IssueRequest["ca"]>]>([
    ["without wishes", {}],
    ["with the longest path", { pathLength: 1 }],
    [
      "with narrower names",
      {
        nameConstraints: limits({
          permitted: {
            dnsDomains: ["payments.example.com", ".example.com"],
            ipRanges: ["10.128.0.0/9"],
            emailAddresses: ["x@a.example.com", "a.example.com", ".a.example.com"],
            uriDomains: ["a.example.com"],
          },
          excluded: { dnsDomains: ["anything.org"] },
        }),
      },
    ],
  ])("is allowed %s", (_, ca) => {
    expect(checkAgainstPolicy(asks(ca), allowing, { namespace })).toEqual([]);
  });

  test.each<[string, NonNullable<IssueRequest["ca"]>, string[]]>([
    ["a longer path", { pathLength: 2 }, ["pathLength"]],
    [
      "another domain",
      { nameConstraints: limits({ permitted: { dnsDomains: ["example.org", "com"] } }) },
      ["nameConstraints.permitted", "nameConstraints.permitted"],
    ],
    [
      "a domain that only ends alike",
      { nameConstraints: limits({ permitted: { dnsDomains: ["evilexample.com"] } }) },
      ["nameConstraints.permitted"],
    ],
    [
      "a wider range",
      { nameConstraints: limits({ permitted: { ipRanges: ["10.0.0.0/7"] } }) },
      ["nameConstraints.permitted"],
    ],
    [
      "hosts outside the domain",
      { nameConstraints: limits({ permitted: { emailAddresses: ["example.com"] } }) },
      ["nameConstraints.permitted"],
    ],
    [
      "hosts below a host",
      { nameConstraints: limits({ permitted: { uriDomains: [".a.example.com"] } }) },
      ["nameConstraints.permitted"],
    ],
  ])("is denied %s", (_, ca, fields) => {
    expect(checkAgainstPolicy(asks(ca), allowing, { namespace }).map(({ field }) => field)).toEqual(fields);
  });

  test("has no CA below it unless that is allowed", () => {
    const { pathLength: _, ...short } = allowing.allowSubordinates ?? {};
    expect(
      checkAgainstPolicy(asks({ pathLength: 1 }), { ...allowing, allowSubordinates: short }, { namespace }),
    ).toMatchObject([{ field: "pathLength", message: "is larger than the issuer allows; use at most 0" }]);
  });

  test("has a subject", () => {
    expect(checkAgainstPolicy({ ...asks({}), subject: [] }, allowing, { namespace })).toMatchObject([
      { field: "subject", message: "is empty; add a common name" },
    ]);
  });

  test("does not bear its issuer's name, for which relying parties would take it", () => {
    const own = { ...allowing, ownSubject: fromSubject({ commonName: "team ca", organizations: ["Team"] }) };
    expect(checkAgainstPolicy(asks({}), own, { namespace })).toMatchObject([
      { field: "subject", message: "is that of the issuer itself; use another" },
    ]);
  });

  test("may sign OCSP answers itself, but encipher nothing", () => {
    const usages = { keyUsage: ["keyCertSign", "digitalSignature", "keyEncipherment"] as const, extendedKeyUsage: [] };
    expect(checkAgainstPolicy({ ...asks({}), usages }, allowing, { namespace })).toMatchObject([{ field: "usages" }]);
  });
});

describe("name constraints of a subordinate, as openssl sees them", () => {
  const key = async () => new LocalSigner(await generateKey(ecdsa));
  const validity = { notBefore: new Date(Date.now() - hour), notAfter: new Date(Date.now() + hour) };
  /** Verdicts of openssl on leaves with these names, below a CA with these constraints. */
  async function verdicts(
    constraints: NameConstraints | undefined,
    leaves: readonly Parameters<typeof subjectAltNames>[0][],
  ) {
    const [root, sub] = [await key(), await key()];
    const rootName = fromSubject({ commonName: "Root" });
    const subName = fromSubject({ commonName: "Sub" });
    const usages = profileUsages("CA", ecdsa);
    const references = (issuer: LocalSigner) => ({
      keyIdentifier: keyIdentifier(issuer.spki),
      crlUrls: ["http://pki.example/1.crl"],
      ocspUrls: ["http://pki.example/ocsp"],
      caIssuersUrls: ["http://pki.example/1.cer"],
    });
    const rootCertificate = await signCertificate(
      {
        ...{
          serialNumber: newSerialNumber(new Date()),
          issuer: encodeName(rootName),
          subject: encodeName(rootName),
          ...validity,
          spki: root.spki,
        },
        extensions: certificateExtensions({ subject: rootName, spki: root.spki, subjectAltNames: [], usages, ca: {} }),
      },
      root,
    );
    const ca = { pathLength: 0, ...(constraints && { nameConstraints: constraints }) };
    const subCertificate = await signCertificate(
      {
        ...{
          serialNumber: newSerialNumber(new Date()),
          issuer: encodeName(rootName),
          subject: encodeName(subName),
          ...validity,
          spki: sub.spki,
        },
        extensions: certificateExtensions(
          { subject: subName, spki: sub.spki, subjectAltNames: [], usages, ca },
          references(root),
        ),
      },
      root,
    );
    judge.write("root.pem", pem("CERTIFICATE", rootCertificate));
    judge.write("sub.pem", pem("CERTIFICATE", subCertificate));
    const results: boolean[] = [];
    for (const leaf of leaves) {
      const { spki } = await key();
      const contents = {
        subject: [],
        spki,
        subjectAltNames: subjectAltNames(leaf),
        usages: profileUsages("Server", ecdsa),
      };
      const certificate = await signCertificate(
        {
          ...{
            serialNumber: newSerialNumber(new Date()),
            issuer: encodeName(subName),
            subject: encodeName([]),
            ...validity,
            spki,
          },
          extensions: certificateExtensions(contents, references(sub)),
        },
        sub,
      );
      judge.write("leaf.pem", pem("CERTIFICATE", certificate));
      const flags = "-x509_strict -purpose sslserver -CAfile root.pem -untrusted sub.pem leaf.pem".split(" ");
      const { ok, output } = judge.ask("openssl", "verify", ...flags);
      if (!ok) expect(output).toMatch(/permitted subtree violation|excluded subtree violation/);
      results.push(ok);
    }
    return results;
  }

  const leaves = [
    { dnsNames: ["a.payments.example.com"] },
    { dnsNames: ["a.other.example.com"] },
    { dnsNames: ["example.org"] },
    { ipAddresses: ["10.0.0.1"] },
    { ipAddresses: ["2001:db8::1"] },
    { uris: ["https://a.example.com/"] },
    { emailAddresses: ["a@example.com"] },
  ];
  test.each<[string, NameConstraints | undefined, NameConstraints | undefined, boolean[]]>([
    ["none", undefined, undefined, [true, true, true, true, true, true, true]],
    [
      "what it asks for",
      limits({ permitted: { dnsDomains: ["payments.example.com"] } }),
      undefined,
      [true, false, false, true, true, true, true],
    ],
    [
      "what its issuer permits, and no other kind",
      undefined,
      limits({ permitted: { dnsDomains: ["example.com"] } }),
      [true, true, false, false, false, false, false],
    ],
    [
      "the narrower of both",
      limits({ permitted: { dnsDomains: ["payments.example.com"] } }),
      limits({ permitted: { dnsDomains: ["example.com"], ipRanges: ["10.0.0.0/8"] } }),
      [true, false, false, true, false, false, false],
    ],
    [
      "what its issuer excludes",
      undefined,
      limits({ excluded: { dnsDomains: ["other.example.com"] } }),
      [true, false, true, true, true, true, true],
    ],
    [
      "what either excludes",
      limits({ excluded: { dnsDomains: ["example.org"] } }),
      limits({ excluded: { ipRanges: ["10.0.0.0/8"] } }),
      [true, true, false, false, true, true, true],
    ],
  ])("%s", async (_, requested, allowed, expected) => {
    expect(await verdicts(subordinateConstraints(requested, allowed), leaves)).toEqual(expected);
  });

  test("are none where none are wanted", () => {
    expect(subordinateConstraints(undefined, { permitted: [], excluded: [] })).toBeUndefined();
  });
});

describe("the extensions of a certificate", () => {
  const issuer = {
    keyIdentifier: Buffer.alloc(20, 1),
    crlUrls: ["http://pki.example/1.crl"],
    ocspUrls: ["http://pki.example/ocsp"],
    caIssuersUrls: ["http://pki.example/1.cer"],
  };
  const contents = async (profile: Profile, change = {}) => {
    const signer = new LocalSigner(await generateKey(ecdsa));
    return {
      subject: [],
      spki: signer.spki,
      subjectAltNames: subjectAltNames({ dnsNames: ["a"] }),
      usages: profileUsages(profile, ecdsa),
      ...change,
    };
  };
  const found = (list: ReturnType<typeof certificateExtensions>) =>
    Object.fromEntries(
      list.map(({ oid, critical }) => [Object.entries(oids).find(([, value]) => value === oid)?.[0], critical]),
    );

  test("of a server, whose only names are alternative", async () => {
    expect(found(certificateExtensions(await contents("Server"), issuer))).toEqual({
      basicConstraints: true,
      keyUsage: true,
      extendedKeyUsage: false,
      subjectKeyIdentifier: false,
      authorityKeyIdentifier: false,
      subjectAltName: true,
      cRLDistributionPoints: false,
      authorityInfoAccess: false,
    });
  });

  test("with a subject the alternative names are not critical", async () => {
    const named = await contents("Server", { subject: fromSubject({ commonName: "a" }) });
    expect(found(certificateExtensions(named, issuer))).toMatchObject({ subjectAltName: false });
  });

  test("of an OCSP responder, whom nobody checks", async () => {
    expect(found(certificateExtensions(await contents("OCSPResponder", { subjectAltNames: [] }), issuer))).toEqual({
      basicConstraints: true,
      keyUsage: true,
      extendedKeyUsage: false,
      subjectKeyIdentifier: false,
      authorityKeyIdentifier: false,
      ocspNoCheck: false,
    });
  });

  test("of a root", async () => {
    const ca = { nameConstraints: limits({ permitted: { dnsDomains: ["a"] } }) };
    expect(found(certificateExtensions(await contents("CA", { subjectAltNames: [], ca })))).toEqual({
      basicConstraints: true,
      keyUsage: true,
      subjectKeyIdentifier: false,
      nameConstraints: true,
    });
  });

  test("without URLs say nothing of them", async () => {
    const silent = { ...issuer, crlUrls: [], ocspUrls: [], caIssuersUrls: [] };
    const list = certificateExtensions(await contents("Client"), silent);
    const signer = new LocalSigner(await generateKey(ecdsa));
    const name = encodeName(fromSubject({ commonName: "a" }));
    const encoded = await signCertificate(
      {
        serialNumber: newSerialNumber(new Date()),
        issuer: name,
        subject: name,
        notBefore: new Date(),
        notAfter: new Date(),
        spki: signer.spki,
        extensions: list,
      },
      signer,
    );
    expect(parseCertificate(encoded)).toMatchObject({
      crlUrls: [],
      authorityInfoAccess: undefined,
      basicConstraints: { ca: false },
    });
  });
});
