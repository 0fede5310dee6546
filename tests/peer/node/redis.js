// What an agent does with node-redis: `node redis.js PORT RESP`; prints one JSON document of what it saw.
const { createClient } = require("redis");

async function main(port, resp) {
  const url = `redis://127.0.0.1:${port}`;
  const client = createClient({ url, RESP: resp });
  const said = {};
  client.on("error", (error) => { said.error = String(error); });
  await client.connect();
  said.ping = await client.ping();
  await client.set("k", "v", { EX: 100 });
  said.get = await client.get("k");
  said.missing = await client.get("missing");
  await client.hSet("h", { f: "v", g: "w" });
  said.hash = await client.hGetAll("h");
  await client.zAdd("z", [{ score: 1.5, value: "a" }, { score: 2, value: "b" }]);
  said.scores = await client.zRangeWithScores("z", 0, -1);
  said.multi = await client.multi().set("m", "1").incr("m").get("m").exec();
  said.pipeline = await Promise.all([...Array(500).keys()].map((i) => client.set(`p:${i}`, String(i))));
  said.pipeline = new Set(said.pipeline).size;
  said.values = (await client.mGet(["p:1", "p:2", "nothing"]));
  said.script = await client.eval("return redis.call('GET', KEYS[1])", { keys: ["k"] });
  said.masked = await client.hGetAll("user:1");
  said.maskedGet = await client.get("user:2");
  for (const [name, call] of [["flush", () => client.flushAll()], ["copy", () => client.copy("user:2", "mine")]]) {
    try { await call(); said[name] = "passed"; } catch (error) { said[name] = error.message.replace(/\d{4}-\d+/, "ID"); }
  }
  try {
    await client.multi().set("x", "1").flushAll().exec();
    said.poisoned = "passed";
  } catch (error) { said.poisoned = error.message.split(" ")[0]; }
  said.after = await client.exists("x");
  const buffers = await client.get("user:2");
  said.type = typeof buffers;
  const listener = client.duplicate();
  await listener.connect();
  const heard = new Promise((resolve) => { listener.subscribe("news", resolve); });
  while ((await client.publish("news", "hello")) === 0) { await new Promise((resolve) => setTimeout(resolve, 10)); }
  said.message = await heard;
  await listener.unsubscribe("news");
  said.scan = 0;
  for await (const keys of client.scanIterator({ MATCH: "p:*", COUNT: 100 })) { said.scan += keys.length; }
  await listener.close();
  await client.close();
  console.log(JSON.stringify(said));
}

main(Number(process.argv[2]), Number(process.argv[3])).catch((error) => { console.error(error); process.exit(1); });
