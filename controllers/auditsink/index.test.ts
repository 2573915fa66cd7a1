/** An AuditSink that cannot be opened yet is owed the record all the same. */
import { Stalled } from "../../core/errors.ts";
import { FakeAuditLog } from "../../core/ports/fake-audit-log.ts";
import { FakeSinkCursors } from "../../core/ports/fake-audit-sink.ts";
import { FakeDatabase } from "../../core/ports/fake-database.ts";
import type { AuditSink } from "../../crds/auditsink.ts";
import { FakeApiServer } from "../runtime/testing/fake-apiserver.ts";
import { KubernetesApi } from "../runtime/transport.ts";
import { AuditSinkController } from "./index.ts";

const { signal } = new AbortController();

test("a sink that cannot be opened is known in the database, so that nothing leaves the record that it lacks", async () => {
  const server = await FakeApiServer.start();
  const api = KubernetesApi.connect(server.config(), {});
  try {
    const database = new FakeDatabase();
    const audit = new FakeAuditLog(database);
    const cursors = new FakeSinkCursors(database);
    const epoch = await database.acquireEpoch("test");
    const controller = new AuditSinkController({
      api,
      audit,
      cursors,
      sinks: {
        open: () => {
          throw new Stalled("SinkNotAllowed", "no directory");
        },
      },
      installation: "i",
      systemNamespace: "mazevault-system",
      writer: () => ({ epoch }),
    });
    const sink: AuditSink = {
      apiVersion: "mazevault.io/v1",
      kind: "AuditSink",
      metadata: { name: "file", uid: "uid", resourceVersion: "1" },
      spec: { file: { name: "audit.jsonl" } },
    };
    await expect(controller.observe(sink, signal)).rejects.toMatchObject({ code: "SinkNotAllowed" });
    expect(await cursors.list()).toEqual([{ uid: "uid", name: "file" }]);
    await audit.link(epoch, 10);
    await audit.checkpoint(epoch, { rows: 1, ms: 0 });
    expect(await audit.cut(epoch, new Date(Date.now() + 3_600_000))).toBeUndefined();
    await controller.absent("file");
    expect(await cursors.list()).toEqual([]);
  } finally {
    await api.close();
    await server.stop();
  }
});
