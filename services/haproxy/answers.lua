-- Keeps the answers of the models that cannot differ, and gives them again: in Redis, under a hash of the question.
--
-- `http-request lua.find-answer` looks for the answer to a question whose body is there; what it finds is in the variable
-- txn.answer, which the service `lua.kept-answer` sends. `filter lua.answers` keeps the answers that were not found. Which questions
-- are meant is for the configuration to say. Without Redis every question is asked.
--
-- The arguments of `lua-load`: the port at which the proxy itself reaches Redis, the file with the password of its user "answers",
-- how many seconds an answer is kept, and a text that is another one when models are other ones.

local PORT, PASSWORD_FILE, SECONDS, MODELS = ...

-- A person would not notice less; Redis answers within a millisecond.
local TIMEOUT_SECONDS = 0.2

-- What is longer is not kept: Redis has more use for its memory.
local LONGEST = 256 * 1024

local password = io.open(PASSWORD_FILE):read("l")

-- For models.lua, which shows all measurements of the models.
KEPT_ANSWERS = { hit = 0, miss = 0 }

-- Redis' protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
local function command(...)
    local words = { ... }
    local parts = { ("*%d\r\n"):format(#words) }
    for _, word in ipairs(words) do
        parts[#parts + 1] = ("$%d\r\n%s\r\n"):format(#word, word)
    end
    return table.concat(parts)
end

-- Sends a command on a connection of its own, and returns the text of Redis' answer, or nil.
local function ask(...)
    local socket = core.tcp()
    socket:settimeout(TIMEOUT_SECONDS)
    local answer
    if socket:connect("127.0.0.1", tonumber(PORT)) and socket:send(command("AUTH", "answers", password) .. command(...)) then
        local said, line = socket:receive("*l"), nil
        line = said and socket:receive("*l")
        local length = line and line:match("^%$(%d+)")
        answer = length and socket:receive(tonumber(length))
    end
    socket:close()
    return answer
end

core.register_action("find-answer", { "http-req" }, function(transaction)
    local body = transaction.f:req_body() or ""
    -- Of a question that is longer than the proxy's memory for it only the beginning is there.
    local length = tonumber(transaction.sf:req_fhdr("content-length"))
    if length ~= #body then
        return
    end
    local question = table.concat({ MODELS, transaction.f:path(), body }, "\n")
    local key = "answer:" .. transaction.c:hex(transaction.c:sha2(question, 256))
    local answer = ask("GET", key)
    if answer then
        KEPT_ANSWERS.hit = KEPT_ANSWERS.hit + 1
        transaction:set_var("txn.answer", answer)
    else
        KEPT_ANSWERS.miss = KEPT_ANSWERS.miss + 1
        transaction:set_var("txn.question", key)
    end
end, 0)

core.register_service("kept-answer", "http", function(applet)
    local kind, body = applet:get_var("txn.answer"):match("^([^\n]*)\n(.*)$")
    applet:set_status(200)
    applet:add_header("content-type", kind)
    applet:add_header("content-length", #body)
    -- RFC 9211.
    applet:add_header("cache-status", "haproxy; hit")
    applet:start_response()
    applet:send(body)
end)

-- The end of an answer does not wait for Redis.
local pending = {}

local Answers = { id = "keeps answers that cannot differ", flags = filter.FLT_CFG_FL_HTX }
Answers.__index = Answers

function Answers:new()
    return setmetatable({}, Answers)
end

function Answers:http_headers(transaction, message)
    if not message.channel:is_resp() or transaction.f:status() ~= 200 then
        return
    end
    self.key = transaction:get_var("txn.question")
    if self.key then
        local kind = message:get_headers()["content-type"]
        self.parts, self.length = { kind and kind[0] or "application/json", "\n" }, 0
        filter.register_data_filter(self, message.channel)
    end
end

function Answers:http_payload(_, message)
    local length = message:input()
    if not self.parts or length == 0 then
        return
    end
    self.length = self.length + length
    if self.length > LONGEST then
        self.parts = nil
        return
    end
    self.parts[#self.parts + 1] = message:body(0, length) or ""
end

-- Whether an answer is whole: Ollama tells of a failure on the way in the answer, and ends it as usual.
local ENDS = {
    ["application/x-ndjson"] = '"done":true[^\n]*%s*$',
    ["text/event-stream"] = "data: %[DONE%]%s*$",
    ["application/json"] = "}%s*$",
}

local function whole(answer)
    local kind, body = answer:match("^([^\n;]*)[^\n]*\n(.*)$")
    local ending = ENDS[kind]
    return ending and body:find(ending) and not ("\n" .. body):find('\n[data: ]*{"error"')
end

-- An answer that was cut off has no such end.
function Answers:http_end(_, message)
    if message.channel:is_resp() and self.parts then
        local answer = table.concat(self.parts)
        if whole(answer) then
            pending[#pending + 1] = { key = self.key, answer = answer }
        end
    end
end

core.register_filter("answers", Answers, function(answers)
    return answers
end)

core.register_task(function()
    while true do
        core.msleep(50)
        local found = pending
        pending = {}
        for _, each in ipairs(found) do
            ask("SET", each.key, each.answer, "EX", SECONDS)
        end
    end
end)
