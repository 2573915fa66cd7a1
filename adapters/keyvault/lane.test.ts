import { createPipelineRequest } from "@azure/core-rest-pipeline";
import { CallBudget } from "../../core/sync/budget.ts";
import { Lane, type Operation, operations } from "./lane.ts";

describe("Lane", () => {
  it("follows no link of the vault to another host, since the token would go with it", async () => {
    const seen: string[] = [];
    const wire = {
      sendRequest: async (request: { url: string }) => {
        seen.push(request.url);
        throw new Error("nothing listens here");
      },
    };
    const options = {
      requestTimeoutMs: 1_000,
      budgetWaitMs: 1_000,
      breaker: { failures: 5, probeAfterMs: 1_000 },
      onCall: () => undefined,
    };
    const lane = new Lane("https://a.vault.azure.net/", 10, wire, options);
    const operation: Operation = {
      name: "list",
      priority: "Look",
      signal: new AbortController().signal,
      budget: new CallBudget(10, 1_000),
      sent: false,
    };
    for (const url of [
      "https://evil.example/secrets",
      "https://a.vault.azure.net:444/",
      "https://b.vault.azure.net/",
    ]) {
      const sending = operations.run(operation, () => lane.httpClient.sendRequest(createPipelineRequest({ url })));
      await expect(sending).rejects.toMatchObject({ code: "VaultHostNotAllowed" });
    }
    expect(seen).toEqual([]);
    expect(lane.state.callsInWindow).toBe(0);
  });
});
