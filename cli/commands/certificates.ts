import type { Command } from "commander";
import { acting, placeOf } from "../context.ts";
import { CommandError, EXIT, UsageError } from "../errors.ts";
import { readValueFile } from "../input.ts";
import type { Terminal } from "../output.ts";

interface Signed {
  readonly state: "Pending" | "Signed" | "Refused";
  readonly certificate?: string;
  readonly serialNumber?: string;
  readonly notAfter?: string;
  readonly message: string;
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
          if (answer.state === "Refused") throw new CommandError(EXIT.conflict, answer.message);
          if (answer.certificate === undefined) {
            throw new CommandError(EXIT.unavailable, `not signed yet: ${answer.message}`);
          }
          if (output.format === "table") output.raw(answer.certificate);
          else output.data(answer);
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
          const { namespace, name } = placeOf(certificate);
          const { reason, serial } = options;
          const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/certificates/${encodeURIComponent(name)}/revoke`;
          await client.post(path, { reason, ...(serial !== undefined && { serialNumber: serial }) });
          output.note(`${certificate}: the revocation is on its way; its status tells when it is done`);
        },
      ),
    );
}
