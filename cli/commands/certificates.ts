import { type Command, Option } from "commander";
import { acting, type Place, placeOf } from "../context.ts";
import { CommandError, EXIT, UsageError } from "../errors.ts";
import { assertNew, givenPassword, readValueFile, writeOwnFile } from "../input.ts";
import type { Output, Terminal } from "../output.ts";

interface Signed {
  readonly state: "Pending" | "Signed" | "Refused";
  readonly certificate?: string;
  readonly serialNumber?: string;
  readonly notAfter?: string;
  readonly message: string;
}

/** As `core/pki/urls.ts` makes their paths. */
const CRL = /(?:^|\/)([0-9a-f-]{36})\/(\d+)(?:-(\d+))?\.crl$/;

interface Summary {
  readonly namespace: string;
  readonly name: string;
  readonly issuer: string;
  readonly serialNumber?: string;
  readonly notAfter?: string;
  readonly renewalTime?: string;
  readonly ready: boolean;
  readonly reason: string;
}

const shown = ({ namespace, name, issuer, serialNumber, notAfter, renewalTime, ready, reason }: Summary) => ({
  namespace,
  name,
  issuer,
  serial: serialNumber,
  "not after": notAfter,
  renewal: renewalTime,
  ready,
  reason,
});

const pathOf = ({ namespace, name }: Place, kind = "certificates"): string =>
  `/api/v1/namespaces/${encodeURIComponent(namespace)}/${kind}/${encodeURIComponent(name)}`;

/** The certificate of a request, once it is signed. */
function tellSigned(output: Output, answer: Signed): void {
  if (answer.state === "Refused") throw new CommandError(EXIT.conflict, answer.message);
  if (answer.certificate === undefined) throw new CommandError(EXIT.unavailable, `not signed yet: ${answer.message}`);
  if (output.format === "table") output.raw(answer.certificate);
  else output.data(answer);
}

export function certificateCommands(program: Command, terminal: Terminal): void {
  program
    .command("issue")
    .description("have a PKCS #10 request signed; prints the certificate with its chain")
    .argument("<request>", "NAMESPACE/NAME of the CertificateRequest to make")
    .requiredOption("--csr <file>", "the request, in PEM")
    .requiredOption("--issuer <name>", "Issuer of the namespace, or ClusterIssuer/NAME")
    .option("--duration <duration>", "how long it is valid, such as 2160h")
    .option("--profile <profile>", "Server or Client")
    .action(
      acting(
        terminal,
        async (
          { client, output },
          request: string,
          options: { csr: string; issuer: string; duration?: string; profile?: string },
        ) => {
          const { namespace, name } = placeOf(request);
          const [kind, issuer] = options.issuer.includes("/") ? options.issuer.split("/") : ["Issuer", options.issuer];
          if (kind !== "Issuer" && kind !== "ClusterIssuer")
            throw new UsageError("--issuer: must be NAME or ClusterIssuer/NAME");
          const { duration, profile } = options;
          const answer = await client.post<Signed>(
            `/api/v1/namespaces/${encodeURIComponent(namespace)}/certificate-requests`,
            {
              name,
              request: readValueFile(options.csr).toString("utf8"),
              issuerRef: { kind, name: issuer },
              ...(duration !== undefined && { duration }),
              ...(profile !== undefined && { profile }),
            },
          );
          tellSigned(output, answer);
        },
      ),
    );

  program
    .command("revoke")
    .description("revoke a certificate; another one takes its place at once")
    .argument("<certificate>", "NAMESPACE/NAME")
    .requiredOption("--reason <reason>", "as RFC 5280 has them, such as keyCompromise or superseded")
    .option("--serial <number>", "another one than the current certificate")
    .action(
      acting(
        terminal,
        async ({ client, output }, certificate: string, options: { reason: string; serial?: string }) => {
          const { reason, serial } = options;
          await client.post(`${pathOf(placeOf(certificate))}/revoke`, {
            reason,
            ...(serial !== undefined && { serialNumber: serial }),
          });
          output.note(`${certificate}: the revocation is on its way; its status tells when it is done`);
        },
      ),
    );

  const certificates = program.command("certificates").description("certificates that are kept valid");

  certificates
    .command("list")
    .description("certificates that you may see")
    .option("-n, --namespace <name>", "only in this namespace")
    .action(
      acting(terminal, async ({ client, output }, { namespace }: { namespace?: string }) => {
        const found: Summary[] = [];
        for await (const each of client.items<Summary>("/api/v1/certificates", { namespace, limit: 500 }))
          found.push(each);
        output.rows(found, found.map(shown));
      }),
    );

  certificates
    .command("show")
    .description("what is known of one")
    .argument("<certificate>", "NAMESPACE/NAME")
    .action(
      acting(terminal, async ({ client, output }, certificate: string) => {
        const found = await client.get<Summary>(pathOf(placeOf(certificate)));
        output.rows(found, [shown(found)]);
      }),
    );

  certificates
    .command("chain")
    .description("the certificate and the CAs above it, in PEM")
    .argument("<certificate>", "NAMESPACE/NAME")
    .action(
      acting(terminal, async ({ client, output }, certificate: string) =>
        output.raw((await client.send("GET", `${pathOf(placeOf(certificate))}/chain`)).bytes),
      ),
    );

  certificates
    .command("keystore")
    .description("the certificate with its private key and its chain, in a new file; its password is asked for")
    .argument("<certificate>", "NAMESPACE/NAME")
    .requiredOption("--file <file>", "the keystore; only you can read it")
    .addOption(new Option("--format <format>", "PKCS#12, or Java's own").choices(["pkcs12", "jks"]).default("pkcs12"))
    .option("--password-stdin", "read its password from standard input")
    .action(
      acting(
        terminal,
        async (
          { client, output },
          certificate: string,
          options: { file: string; format: string; passwordStdin?: boolean },
        ) => {
          const { file, format } = options;
          assertNew(file);
          const body = { format, password: await givenPassword(terminal, options.passwordStdin) };
          writeOwnFile(file, (await client.send("POST", `${pathOf(placeOf(certificate))}/keystore`, { body })).bytes);
          output.note(`written to ${file}`);
        },
      ),
    );

  certificates
    .command("request")
    .description("what became of a request; prints the certificate once it is signed")
    .argument("<request>", "NAMESPACE/NAME of the CertificateRequest")
    .action(
      acting(terminal, async ({ client, output }, request: string) =>
        tellSigned(output, await client.get<Signed>(pathOf(placeOf(request), "certificate-requests"))),
      ),
    );

  program
    .command("crl")
    .description("a CRL, in DER")
    .argument("<crl>", "its URL, as certificates name it, or how that ends: CA/KEY.crl")
    .action(
      acting(terminal, async ({ client, output }, crl: string) => {
        const [, authority, generation, partition = "0"] = CRL.exec(crl) ?? [];
        if (authority === undefined) throw new UsageError(`${crl}: must be the URL of a CRL, or end as it does`);
        if (output.isTerminal)
          throw new UsageError("a CRL is binary: write it to a file, or pipe it into openssl crl -inform DER");
        const path = `/api/v1/authorities/${authority}/crls/${generation}/${partition}`;
        output.raw((await client.send("GET", path)).bytes);
      }),
    );
}
