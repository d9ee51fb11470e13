// Running an engine once for its results, and several in turns for their latency.
#pragma once

#include <cmath>
#include <sys/stat.h>

#include "session.hpp"

inline std::string tensorsText(const Session& session) {
    json::Node list('[');
    for (const IoTensor& tensor : session.tensors()) {
        list.add(json::Node('{')
                     .add("name", json::text(tensor.name))
                     .add("type", json::text(infoOf(tensor.type).numpyName))
                     .add("shape", shapeText(tensor.dims))
                     .add("output", tensor.isOutput ? "true" : "false")
                     .str());
    }
    return list.str();
}

// Writes OUTPUTS/plain-0 and so on, one folder for each --inputs; with --graph also
// OUTPUTS/replayed-0 and so on: one graph, captured on the first inputs, on all of them.
inline std::string run(TensorRt& trt, const Options& o) {
    Session session(trt, o.files[0], o);
    session.addSet();
    session.bind(0);
    const auto each = [&](const std::string& way, const auto& launch) {
        for (std::size_t k = 0; k < o.inputs.size(); ++k) {
            session.upload(o.inputs[k]);
            session.poison();
            launch();
            checkCuda(cudaStreamSynchronize(session.stream()), "running the engine");
            if (o.outputs.empty()) continue;
            const std::string folder = o.outputs + "/" + way + "-" + std::to_string(k);
            mkdir(o.outputs.c_str(), 0777);
            mkdir(folder.c_str(), 0777);
            session.download(folder);
        }
    };
    each("plain", [&] { session.enqueue(); });
    if (o.graph) {
        session.upload(o.inputs[0]);
        session.capture();
        each("replayed", [&] { session.launch(0); });
    }
    if (!o.layers.empty()) {
        const std::string text = session.layerInformation();
        writeFile(o.layers, text.data(), text.size());
    }
    json::Node result('{');
    result.add("tensors", tensorsText(session));
    if (o.profileRuns > 0) result.add("layers", session.layerTimes(o.profileRuns));
    return result.str();
}

// Sets enough that the one used next has left the L2 cache.
inline std::size_t setsBeyondL2(std::size_t bytesOfSet) {
    int l2 = 0;
    checkCuda(cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, 0), "asking for the L2 size");
    const std::size_t wanted =
        2 * static_cast<std::size_t>(l2) / std::max<std::size_t>(bytesOfSet, 1) + 1;
    return std::min<std::size_t>(wanted, 16);
}

class Stopwatch {
public:
    Stopwatch() {
        checkCuda(cudaEventCreate(&begin_), "making an event");
        checkCuda(cudaEventCreate(&end_), "making an event");
    }
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;
    ~Stopwatch() {
        cudaEventDestroy(begin_);
        cudaEventDestroy(end_);
    }
    // Milliseconds of one replay, as the mean of `replays` that follow each other.
    double measure(Session& session, std::size_t replays) {
        checkCuda(cudaEventRecord(begin_, session.stream()), "recording an event");
        for (std::size_t i = 0; i < replays; ++i) session.launch(i % session.sets());
        checkCuda(cudaEventRecord(end_, session.stream()), "recording an event");
        checkCuda(cudaEventSynchronize(end_), "waiting for an event");
        float ms = 0;
        checkCuda(cudaEventElapsedTime(&ms, begin_, end_), "reading an event");
        return static_cast<double>(ms) / static_cast<double>(replays);
    }

private:
    cudaEvent_t begin_{}, end_{};
};

inline std::string percentiles(std::vector<double> samples) {
    std::sort(samples.begin(), samples.end());
    const auto at = [&](double share) {
        return json::number(samples[static_cast<std::size_t>(
            std::lround(share * static_cast<double>(samples.size() - 1)))]);
    };
    return json::Node('{')
        .add("median_ms", at(0.5))
        .add("p10_ms", at(0.1))
        .add("p90_ms", at(0.9))
        .add("p99_ms", at(0.99))
        .add("rounds", std::to_string(samples.size()))
        .str();
}

// Every engine on every folder of inputs; for one folder the engines take turns, in rotating order.
inline std::string timeInTurns(TensorRt& trt, const Options& o) {
    std::vector<std::unique_ptr<Session>> sessions;
    for (const std::string& path : o.files) {
        sessions.push_back(std::make_unique<Session>(trt, path, o));
        const std::size_t sets = setsBeyondL2(sessions.back()->bytesOfSet());
        while (sessions.back()->sets() < sets) sessions.back()->addSet();
        sessions.back()->upload(o.inputs[0]);
        sessions.back()->capture();
    }
    Stopwatch watch;
    json::Node list('[');
    for (const std::string& folder : o.inputs) {
        std::vector<std::size_t> replays;
        for (const auto& session : sessions) {
            session->upload(folder);
            watch.measure(*session, 5 * session->sets());  // clocks and caches settle
            const double once = watch.measure(*session, session->sets());
            replays.push_back(std::max<std::size_t>(
                1, static_cast<std::size_t>(2.0 / std::max(once, 1e-3))));  // some 2 ms a sample
        }
        std::vector<std::vector<double>> samples(sessions.size());
        for (int round = 0; round < o.rounds; ++round) {
            for (std::size_t turn = 0; turn < sessions.size(); ++turn) {
                const std::size_t k = (turn + static_cast<std::size_t>(round)) % sessions.size();
                samples[k].push_back(watch.measure(*sessions[k], replays[k]));
            }
        }
        for (std::size_t k = 0; k < sessions.size(); ++k) {
            list.add(json::Node('{')
                         .add("engine", json::text(o.files[k]))
                         .add("inputs", json::text(folder))
                         .add("sets", std::to_string(sessions[k]->sets()))
                         .add("replays", std::to_string(replays[k]))
                         .add("time", percentiles(samples[k]))
                         .str());
        }
    }
    return json::Node('{').add("results", list.str()).str();
}
