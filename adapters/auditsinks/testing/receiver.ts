/** An HTTPS server as the receiver of a sink: keeps what it is sent, or answers as it is told to. */
import { readFileSync } from "node:fs";
import type { IncomingHttpHeaders } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import type { TLSSocket } from "node:tls";
import type { CertificateFiles } from "../../../lab/pki.ts";

export interface Message {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** Common name of the client certificate. */
  readonly client: string | undefined;
}

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

export class Receiver {
  readonly url: string;
  /** Those that were taken. */
  readonly messages: Message[] = [];
  /** Instead of 200; `Hang`: nothing is answered. */
  answer: Answer | "Hang" | undefined;
  readonly #close: () => Promise<void>;

  private constructor(port: number, close: () => Promise<void>) {
    this.url = `https://localhost:${port}/hook`;
    this.#close = close;
  }

  static async start({ certFile, keyFile }: CertificateFiles, clientCaFile?: string): Promise<Receiver> {
    const server = createServer({
      cert: readFileSync(certFile),
      key: readFileSync(keyFile),
      ...(clientCaFile !== undefined && {
        ca: readFileSync(clientCaFile),
        requestCert: true,
        rejectUnauthorized: true,
      }),
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const receiver = new Receiver((server.address() as AddressInfo).port, async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    });
    server.on("request", async (request, response) => {
      const body = await text(request).catch(() => undefined);
      const { answer } = receiver;
      if (body === undefined || answer === "Hang") return;
      if (answer !== undefined && answer.status >= 300) {
        response.writeHead(answer.status, answer.headers).end(answer.body);
        return;
      }
      const client = (request.socket as TLSSocket).getPeerCertificate().subject?.CN;
      const common = Array.isArray(client) ? client[0] : client;
      receiver.messages.push({ path: request.url ?? "", headers: request.headers, body, client: common });
      response.writeHead(answer?.status ?? 200, answer?.headers).end(answer?.body ?? "{}");
    });
    return receiver;
  }

  stop(): Promise<void> {
    return this.#close();
  }
}
