-- Measures the answers of the models where they pass, because Ollama has no metrics: the end of each answer says how many
-- tokens it took and for how long, and the proxy knows how long it waited. Nothing of a question or an answer is kept.
--
-- `filter lua.models` measures what passes a frontend; the service `lua.models-metrics` shows it to Prometheus.
--
-- It also tells Ollama with each request how long the model is to stay in memory, where that differs by model: Ollama itself has one
-- time for all, and forgets another one when it unloads a model. The file with the models and times is the argument of `lua-load`.

local KEEP_ALIVE_FILE = ...

-- The length of a model's name is bounded, and the numbers that matter stand at the very end of an answer.
local HEAD, TAIL = 512, 2048

local BUCKETS = { 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320 }

local ANSWERS = {
    ["/api/chat"] = true,
    ["/api/embed"] = true,
    ["/api/embeddings"] = true,
    ["/api/generate"] = true,
    ["/v1/chat/completions"] = true,
    ["/v1/completions"] = true,
    ["/v1/embeddings"] = true,
    ["/v1/messages"] = true,
    ["/v1/responses"] = true,
}

-- Of these, Ollama takes the time that a model is to stay; the interface like OpenAI's has no word for it.
local TOLD = {
    ["/api/chat"] = true,
    ["/api/embed"] = true,
    ["/api/embeddings"] = true,
    ["/api/generate"] = true,
}

local keep_alive = {}
for line in io.lines(KEEP_ALIVE_FILE) do
    local model, time = line:match("^(%S+) (%S+)$")
    keep_alive[model] = time
end

local MODEL = '"model":%s*"([%w%._:/%-]+)"'

local HISTOGRAMS = {
    { name = "ollama_queue_seconds", help = "Time in the queue before a model was asked." },
    { name = "ollama_first_byte_seconds", help = "Time from a request's arrival to the first byte of the answer." },
    { name = "ollama_answer_seconds", help = "Time from a request's arrival to the end of the answer." },
}

local COUNTERS = {
    { name = "ollama_prompt_tokens_total", help = "Tokens of questions that were read." },
    { name = "ollama_prompt_seconds_total", help = "Time spent on reading questions." },
    { name = "ollama_generated_tokens_total", help = "Tokens of answers that were generated." },
    { name = "ollama_generated_seconds_total", help = "Time spent on generating answers." },
    { name = "ollama_load_seconds_total", help = "Time spent on loading models into memory." },
}

-- Sums by labels; one state for all threads, so no request is counted twice or lost.
local sums = {}

local function seconds()
    local now = core.now()
    return now.sec + now.usec / 1e6
end

local function new_sum()
    local sum = { counters = {}, histograms = {} }
    for _, counter in ipairs(COUNTERS) do
        sum.counters[counter.name] = 0
    end
    for _, histogram in ipairs(HISTOGRAMS) do
        local counts = {}
        for index = 1, #BUCKETS do
            counts[index] = 0
        end
        sum.histograms[histogram.name] = { counts = counts, total = 0, number = 0 }
    end
    return sum
end

local function observe(histogram, value)
    for index, limit in ipairs(BUCKETS) do
        if value <= limit then
            histogram.counts[index] = histogram.counts[index] + 1
        end
    end
    histogram.total = histogram.total + value
    histogram.number = histogram.number + 1
end

-- The last number of this name: an answer's own text cannot hold it, its quotes have backslashes.
local function last(text, name)
    return tonumber(text:match('.*"' .. name .. '":%s*(%d+)')) or 0
end

-- A measurement that fails must not break the answer.
local function safely(measure)
    return function(...)
        local well, reason = pcall(measure, ...)
        if not well then
            core.Warning("models.lua: " .. tostring(reason))
        end
    end
end

local count = safely(function(request)
    local model = request.head:match(MODEL) or request.tail:match(MODEL)
    if not model then
        return
    end
    local labels = ('consumer="%s",model="%s"'):format(request.consumer, model)
    local sum = sums[labels] or new_sum()
    sums[labels] = sum
    local counters, tail = sum.counters, request.tail
    local function add(name, value)
        counters[name] = counters[name] + value
    end
    -- Ollama's own interface names them one way, those like OpenAI's in others.
    add("ollama_prompt_tokens_total", last(tail, "prompt_eval_count") + last(tail, "prompt_tokens") + last(tail, "input_tokens"))
    add("ollama_prompt_seconds_total", last(tail, "prompt_eval_duration") / 1e9)
    add("ollama_load_seconds_total", last(tail, "load_duration") / 1e9)
    local generated = last(tail, "eval_duration")
    add("ollama_generated_seconds_total", generated / 1e9)
    -- Without a time the tokens would make the rate of tokens a second too high.
    add("ollama_generated_tokens_total", generated > 0 and last(tail, "eval_count") or 0)
    observe(sum.histograms.ollama_queue_seconds, request.waited)
    observe(sum.histograms.ollama_first_byte_seconds, request.first_byte - request.start)
    observe(sum.histograms.ollama_answer_seconds, request.done - request.start)
end)

local Models = { id = "measures the models' answers", flags = filter.FLT_CFG_FL_HTX }
Models.__index = Models

function Models:new()
    return setmetatable({ head = "", tail = "" }, Models)
end

Models.start_analyze = safely(function(self, _, channel)
    if not channel:is_resp() then
        self.start = seconds()
    end
end)

-- Finds out what to tell Ollama with a request, from as much of it as has come: the time, before everything else. Of two equal names
-- the last one counts, so what a request says itself holds.
local function prepare(request, transaction, message, headers)
    local text = transaction.f:req_body() or ""
    local model, begin = text:match(MODEL), text:match("^%s*{()")
    if model and not model:match(":[^/]*$") then
        model = model .. ":latest"
    end
    local time = model and begin and keep_alive[model]
    if not time then
        return
    end
    request.told, request.place = ('"keep_alive":"%s",'):format(time), begin - 1
    local length = headers["content-length"]
    if length then
        message:set_header("content-length", tostring(tonumber(length[0]) + #request.told))
    end
    filter.register_data_filter(request, message.channel)
end

Models.http_headers = safely(function(self, transaction, message)
    if not message.channel:is_resp() then
        self.measured = ANSWERS[transaction.f:path()]
        local headers = message:get_headers()
        self.consumer = headers["x-openwebui-user-id"] and "chat" or headers["x-api-user-id"] and "api" or "program"
        if TOLD[transaction.f:path()] then
            prepare(self, transaction, message, headers)
        end
    -- What was kept (answers.lua) took no model any time.
    elseif self.measured and transaction.f:status() == 200 and not transaction:get_var("txn.answer") then
        self.first_byte = seconds()
        self.waited = (transaction.f:req_timer_queue() or 0) / 1000
        filter.register_data_filter(self, message.channel)
    end
end)

Models.http_payload = safely(function(self, _, message)
    local length = message:input()
    if length == 0 then
        return
    end
    if not message.channel:is_resp() then
        if self.told then
            message:insert(self.told, self.place)
            self.told = nil
        end
        return
    end
    if #self.head < HEAD then
        self.head = self.head .. (message:body(0, math.min(length, HEAD)) or "")
    end
    -- The mark of the end counts as input, but is no text; where it comes alone there is none.
    local keep = math.min(length, TAIL)
    self.tail = (self.tail .. (message:body(length - keep, keep) or "")):sub(-TAIL)
end)

-- Answers whose numbers were not counted yet. The end of an answer waits for this filter, so they are counted afterwards.
local pending = {}

local function count_pending()
    local found = pending
    pending = {}
    for _, request in ipairs(found) do
        count(request)
    end
end

Models.http_end = safely(function(self, _, message)
    if message.channel:is_resp() and self.first_byte then
        self.done = seconds()
        pending[#pending + 1] = self
    end
end)

core.register_task(function()
    while true do
        core.sleep(1)
        count_pending()
    end
end)

core.register_filter("models", Models, function(models)
    return models
end)

local function metrics()
    count_pending()
    local lines = {}
    local function add(format, ...)
        lines[#lines + 1] = format:format(...)
    end
    for _, counter in ipairs(COUNTERS) do
        add("# HELP %s %s", counter.name, counter.help)
        add("# TYPE %s counter", counter.name)
        for labels, sum in pairs(sums) do
            add("%s{%s} %.9g", counter.name, labels, sum.counters[counter.name])
        end
    end
    for _, histogram in ipairs(HISTOGRAMS) do
        add("# HELP %s %s", histogram.name, histogram.help)
        add("# TYPE %s histogram", histogram.name)
        for labels, sum in pairs(sums) do
            local values = sum.histograms[histogram.name]
            for index, limit in ipairs(BUCKETS) do
                add('%s_bucket{%s,le="%g"} %d', histogram.name, labels, limit, values.counts[index])
            end
            add('%s_bucket{%s,le="+Inf"} %d', histogram.name, labels, values.number)
            add("%s_sum{%s} %.9g", histogram.name, labels, values.total)
            add("%s_count{%s} %d", histogram.name, labels, values.number)
        end
    end
    add("# HELP ollama_kept_answers_total Questions whose answer cannot differ, by whether it had been kept.")
    add("# TYPE ollama_kept_answers_total counter")
    for result, number in pairs(KEPT_ANSWERS or {}) do
        add('ollama_kept_answers_total{result="%s"} %d', result, number)
    end
    return table.concat(lines, "\n") .. "\n"
end

core.register_service("models-metrics", "http", function(applet)
    local text = metrics()
    applet:set_status(200)
    applet:add_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
    applet:add_header("Content-Length", #text)
    applet:start_response()
    applet:send(text)
end)
