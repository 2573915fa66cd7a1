/**
 * Events of Azure Key Vault through Event Grid, in its own schema and as CloudEvents 1.0. They are believed in nothing but
 * that it is worth looking: values come from the vault alone.
 */
import { z } from "zod";
import { Problem } from "../problem.ts";
import { route } from "../route.ts";

/** As many as Event Grid puts into one delivery. */
const MOST_EVENTS = 5_000;
const VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent";
/** There is no event for a deletion or a change of properties; the next look finds those. */
const CHANGED: ReadonlySet<string> = new Set(["Microsoft.KeyVault.SecretNewVersionCreated"]);

const event = z.looseObject({
  eventType: z.string().max(256).optional().meta({ description: "Of Event Grid's own schema." }),
  type: z.string().max(256).optional().meta({ description: "Of a CloudEvent." }),
  data: z
    .looseObject({
      VaultName: z
        .string()
        .regex(/^[0-9a-zA-Z-]{3,24}$/, "must be the name of a Key Vault")
        .optional()
        .meta({ description: "Name of the vault." }),
      validationCode: z.string().max(512).optional().meta({ description: "To be given back." }),
    })
    .optional(),
});

const token = z.string().max(256).optional().meta({
  description: "One of rest.eventTokensFile; or in header X-MazeVault-Event-Token, which proxies do not log.",
});

export const eventRoutes = [
  route({
    id: "acceptKeyVaultEvents",
    method: "post",
    path: "/api/v1/events/key-vault",
    tag: "Events",
    summary: "Takes events of Key Vaults, so that their rules look at once.",
    description: "A webhook for Azure Event Grid. The same event any number of times, and in any order, does no harm.",
    query: z.object({ token }),
    body: z.union([z.array(event).max(MOST_EVENTS), event]),
    bodyTypes: ["application/json", "application/cloudevents+json", "application/cloudevents-batch+json"],
    access: { kind: "EventToken" },
    answers: {
      200: {
        description: "They are taken; a subscription is validated.",
        schema: z.strictObject({ validationResponse: z.string().optional() }),
      },
    },
    handle: async ({ input, services }) => {
      const events = [input.body].flat();
      const asked = events.find(({ eventType }) => eventType === VALIDATION);
      if (asked !== undefined) {
        const code = asked.data?.validationCode;
        if (code !== undefined) return { status: 200, body: { validationResponse: code } };
        throw new Problem(400, "InvalidRequest", "body.data.validationCode: a validation event has one");
      }
      const changed = events.filter(({ eventType, type }) => CHANGED.has(eventType ?? type ?? ""));
      const vaults = new Set(changed.flatMap(({ data }) => data?.VaultName?.toLowerCase() ?? []));
      for (const vault of vaults) if (services.view.knowsVault(vault)) services.vaultHints.tell(vault);
      return { status: 200, body: {} };
    },
  }),
  route({
    id: "allowKeyVaultEvents",
    method: "options",
    path: "/api/v1/events/key-vault",
    tag: "Events",
    summary: "Lets a sender of CloudEvents send them here.",
    description:
      "The handshake of CloudEvents' HTTP webhooks: who asks in WebHook-Request-Origin is allowed, when the token is right.",
    safe: true,
    query: z.object({ token }),
    access: { kind: "EventToken" },
    answers: {
      200: {
        description: "It may.",
        schema: z.strictObject({}),
        headers: { "WebHook-Allowed-Origin": "Who asked.", "WebHook-Allowed-Rate": "As many requests a minute." },
      },
    },
    handle: async ({ webhookOrigin = "*" }) => ({
      status: 200,
      body: {},
      headers: { "WebHook-Allowed-Origin": webhookOrigin, "WebHook-Allowed-Rate": "120" },
    }),
  }),
];
