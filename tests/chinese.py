"""Chinese texts of three topics, composed of sentences that were written for the tests."""

from __future__ import annotations

import random

OPENINGS = ["今天", "昨天下午", "上个星期", "在这个季节里", "根据最新的消息", "很多人都知道", "说实话", "对我们来说"]
TOPICS = {
    "weather": [
        "北方的气温突然下降了，早晨的路面上结了一层薄薄的冰。", "海边刮起了很大的风，渔民们只好把船停在港口里。",
        "一场大雨下了整整三天，河水已经漫过了旧桥。", "天空非常晴朗，远处的雪山看得清清楚楚。",
        "气象台提醒大家出门的时候要带上雨伞和外套。", "雾太浓了，机场的航班都被推迟到了中午。",
        "雷声从山的那边传过来，孩子们都跑回了家。", "干燥的空气使树林里很容易发生火灾。",
    ],
    "cooking": [
        "母亲把新鲜的豆腐切成小块，然后放进热油里慢慢地炸。", "这家小店的面条是用手拉出来的，味道特别好。",
        "炖羊肉的时候要加一点姜和葱，汤才会更香。", "我们在院子里烤鱼，邻居们都闻到了香味。",
        "糖放得太多了，这个蛋糕有一点腻。", "奶奶包的饺子总是比外面卖的好吃。",
        "把大米洗干净以后，再用冷水泡半个小时。", "辣椒和花椒是四川菜里最重要的两种调料。",
    ],
    "computing": [
        "工程师修改了程序里的一个错误，服务器终于恢复了正常。", "这台电脑的内存不够，打开文件的速度非常慢。",
        "他们用新的算法训练模型，结果比以前准确得多。", "数据库每天晚上都会自动备份到另外一个机房。",
        "网络中断的时候，用户的请求会被保存在队列里。", "她写的软件可以在手机和电脑上同时运行。",
        "密码太短的账号很容易被黑客攻破。", "编译器发现这个变量在使用之前没有被赋值。",
    ],
}  # fmt: skip


def documents(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Return documents of eight sentences in two paragraphs, with their topic as label. No two are near-duplicates."""
    drawn = random.Random(seed)
    rows = []
    for number in range(count):
        topic = list(TOPICS)[number % len(TOPICS)]
        sentences = [
            f"{drawn.choice(OPENINGS)}，{sentence[:-1]}，一共{drawn.randrange(2, 9999)}次。"
            for sentence in drawn.sample(TOPICS[topic], 8)
        ]
        text = "".join(sentences[:4]) + "\n" + "".join(sentences[4:])
        rows.append({"id": f"{topic}-{number}", "text": text, "label": topic})
    return rows
